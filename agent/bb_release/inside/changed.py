"""Runs in the app's own Python, in collectstatic: what did not change stays, and Django is shown the rest.

`folder` is a tree of links to what the live release has collected, which the same versions with the same settings and
classes made (sources.py). A file's results stay when its source has the same bytes, and when no file that it names is
another: Django writes the hashed name of each file that a style sheet or a script names into it, so that one which
names a changed file is found by that. Those are moved into STATIC_ROOT; Django collects, adjusts and hashes all
others as it would, and knows the hashed names of those that stay. Whatever is not as it is known to be is left to
Django as a whole.
Standard library and Django only, Python 3.8 and later.
"""

import filecmp
import json
import os
import posixpath

import sources

SUFFIXES = {"compress_brotli": ".br", "compress_gzip": ".gz"}  # whitenoise/compress.py, Compressor
COPIES = tuple(SUFFIXES.values())
MOST_MARKS = 64  # each is looked for in all style sheets and scripts


class Otherwise(Exception):
    """Something is not as it is known to be."""


class Collected:
    """What lies in the folder, and what of it stays."""

    def __init__(self, folder, found, storage):
        self.folder, self.found, self.storage = folder, found, storage
        self.files = set(files_below(folder))
        self.manifest = getattr(storage, "manifest_name", "")
        self.hashed = self.read_manifest() if self.manifest else {}
        copies = {name for name in self.files if without_suffix(name) in self.files}
        self.before = set(self.hashed) if self.manifest else self.files - copies
        self.own = set(os.listdir(storage.location)) if os.path.isdir(storage.location) else set()
        self.refuse()
        changed = {name for name in found if name not in self.before or not self.is_same(name)}
        self.changed = self.with_those_that_name_them(changed, self.before - set(found))
        self.stays = {name for name in found if name not in self.changed}

    def read_manifest(self):
        with open(os.path.join(self.folder, self.manifest), "rb") as file:
            return dict(json.loads(file.read().decode())["paths"])

    def results(self, names):
        """All that there can be of these: plain, hashed, and compressed copies of both."""
        made = {result for name in names for result in (name, self.hashed.get(name, name))}
        return made | {name + suffix for name in made for suffix in COPIES}

    def refuse(self):
        if self.files - self.results(self.before) - self.own - {self.manifest}:
            raise Otherwise("there is more than what is known of")
        if self.own & {name.split("/")[0] for name in self.found}:
            raise Otherwise("the tree has something of that name")
        if set(self.found) & {made for name, made in self.hashed.items() if made != name}:
            raise Otherwise("a source has the name that another's result gets")
        for name in self.before | set(self.found):
            if "\\" in name or "%" in name:  # a name and how a style sheet writes it are not the same
                raise Otherwise("an odd name")
        if self.manifest and not folders_of(self.before) <= folders_of(self.found):
            raise Otherwise("a folder is gone, which may have been named")  # hashed_name takes one as it is

    def is_same(self, name):
        _, storage, path = self.found[name]
        try:
            return filecmp.cmp(storage.path(path), os.path.join(self.folder, name), shallow=False)
        except OSError:  # WHITENOISE_KEEP_ONLY_HASHED_FILES
            return False

    def with_those_that_name_them(self, changed, gone):
        """The changed ones, and whatever has to become another by that."""
        from django.contrib.staticfiles.utils import matches_patterns

        if not self.manifest:
            return changed
        patterns = self.storage._patterns
        adjusted = {name for name in self.found if name not in changed and matches_patterns(name, patterns)}
        new, marks = changed | gone, 0
        sought = [self.by_its_source(name) for name in new if matches_patterns(name, patterns)]
        while new:
            sought += [self.hashed.get(name, name) for name in new]
            marks += len(sought)
            if marks > MOST_MARKS:
                raise Otherwise("too much has changed")
            marked = [name.rpartition("/")[2].encode() for name in sought]
            new = {name for name in adjusted if self.names_one_of(name, marked)}
            adjusted, changed, sought = adjusted - new, changed | new, []
        return changed

    def by_its_source(self, name):
        """As others name it with a query (`base.css?v=3`): by the hash of its source, not of what was made of it."""
        from django.core.files.base import ContentFile

        before = os.path.join(self.folder, name)
        return self.storage.hashed_name(name, ContentFile(read(before))) if os.path.exists(before) else name

    def names_one_of(self, name, marked):
        content = read(os.path.join(self.folder, self.hashed[name]))
        return any(mark in content for mark in marked)

    def move(self):
        """Only what stays goes into STATIC_ROOT: a run that is cut short leaves nothing there that is not right."""
        stay = self.results(self.stays)
        for name in self.files - stay:
            os.unlink(os.path.join(self.folder, name))
        for top, _, _ in os.walk(self.folder, topdown=False):
            if top != self.folder and not os.listdir(top):
                os.rmdir(top)
        if not os.path.isdir(self.storage.location):
            os.makedirs(os.path.dirname(self.storage.location), exist_ok=True)
            os.mkdir(self.storage.location)
            os.chmod(self.storage.location, os.stat(self.folder).st_mode & 0o7777)
        for name in os.listdir(self.folder):
            os.rename(os.path.join(self.folder, name), os.path.join(self.storage.location, name))


def begin_with(folder):
    """Put into STATIC_ROOT what stays, and have collectstatic see what changed. False: it will see everything.

    Raises OSError where not all that stays could be moved: some of it may lie in STATIC_ROOT then.
    """
    from django.contrib.staticfiles.finders import get_finders
    from django.contrib.staticfiles.storage import staticfiles_storage

    staticfiles_storage.url  # noqa: B018 - a look at it has it made
    storage = staticfiles_storage._wrapped
    try:
        collected = Collected(folder, sources.found(), storage)
    except (Otherwise, OSError, AttributeError, KeyError, TypeError, ValueError):
        return False
    if not collected.stays:
        return False
    collected.move()  # what fails here ends it: WhiteNoise would open what was moved, which is the live release's too
    for finder in get_finders():
        show(finder, [place for name, place in collected.found.items() if name in collected.changed])
    if collected.manifest:
        know(storage, collected)
    return True


def show(finder, changed):
    """Have a finder find no others than these."""
    mine = [(path, storage) for finds, storage, path in changed if finds is finder]
    finder.list = lambda ignore_patterns: iter(mine)


def know(storage, collected):
    """The storage takes the hashed names of what stays as its own."""
    hashed = {name: collected.hashed[name] for name in collected.stays}
    look_up, save = storage._stored_name, storage.save_manifest

    def stored_name(name, hashed_files):
        return hashed.get(storage.clean_name(posixpath.normpath(name))) or look_up(name, hashed_files)

    def save_manifest():
        made = storage.hashed_files
        # in the order in which it takes files (HashedFilesMixin._post_process, path_level)
        ordered = sorted(collected.found, key=lambda name: len(name.split(os.sep)), reverse=True)
        storage.hashed_files = {name: made[name] if name in made else hashed[name] for name in ordered}
        return save()

    storage._stored_name, storage.save_manifest = stored_name, save_manifest


def files_below(folder):
    for top, _, names in os.walk(folder):
        place = top[len(folder) + 1 :]
        for name in names:
            yield os.path.join(place, name)


def folders_of(names):
    folders = {os.path.dirname(name) for name in names}
    return folders | folders_of(folders) if any(folders) else folders


def without_suffix(name):
    plain, suffix = os.path.splitext(name)
    return plain if suffix in COPIES else ""


def read(path):
    with open(path, "rb") as file:
        return file.read()
