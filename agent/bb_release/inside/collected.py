"""Runs in the app's own Python, in collectstatic: what the live release has collected is not made once more.

What is known to stay as it is Django does not get to see (changed.py). Where that is not known, what Django saves is
linked where the live release has the same bytes by that name, and WhiteNoise's two compressions, which make bytes of
bytes, are looked up by what goes in. All else is done by Django and WhiteNoise.
The agent says where only if the same versions with the same settings made what is there.
Standard library and Django only, Python 3.8 and later.
"""

import hashlib
import os

import changed


def remember(folder):
    """Have collectstatic take from this folder what it made before. It may be taken apart."""
    if changed.begin_with(folder):
        return
    link_what_is_saved(folder)
    try:
        from whitenoise.compress import Compressor
    except ImportError:
        return
    known = {}
    for top, _, files in os.walk(folder):
        names = set(files)
        for name in names:
            if any(name + suffix in names for suffix in changed.SUFFIXES.values()):
                path = os.path.join(top, name)
                known[digest(changed.read(path))] = path
    for name, suffix in changed.SUFFIXES.items():
        compress = vars(Compressor).get(name)
        if isinstance(compress, staticmethod):
            setattr(Compressor, name, staticmethod(looked_up(known, suffix, compress.__func__)))


def link_what_is_saved(folder):
    """Django writes into no file that is there: it removes it first (FileSystemStorage._save opens with O_EXCL)."""
    from django.contrib.staticfiles.storage import staticfiles_storage

    staticfiles_storage.url  # noqa: B018 - a look at it has it made
    storage = staticfiles_storage._wrapped
    save = storage._save

    def link_or_save(name, content):
        path = storage.path(name)
        relative = os.path.relpath(path, storage.location)
        before = os.path.join(folder, relative)
        try:
            if has(before, content):
                os.link(before, path)
                return relative
        except OSError:  # no such file; no folder yet, which Django makes with its mode; no more links to it
            pass
        return save(name, content)

    storage._save = link_or_save


def has(path, content):
    """Are these the bytes of the file at this path? Raises OSError."""
    if os.stat(path).st_size != content.size:
        return False
    with open(path, "rb") as file:
        return all(file.read(len(chunk)) == chunk for chunk in content.chunks())


def looked_up(known, suffix, compress):
    def look_up(data):
        path = known.get(digest(data))
        try:
            return changed.read(path + suffix) if path else compress(data)
        except OSError:  # it was of no use to have it smaller
            return compress(data)

    return look_up


def digest(data):
    return hashlib.blake2b(data, digest_size=16).digest()
