"""A bare repository of ours: its known configuration, the words that start git on it, what a killed git left.

Nothing that a user, a remote or a former intruder wrote reaches git as an option, as configuration or as a
program to run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
from pathlib import Path

from bb_release.errors import MirrorNotUpdated
from bb_release.tools.git_access import Access, check_secret

FULL_HASH = re.compile(r"\A([0-9a-f]{40}|[0-9a-f]{64})\Z")
LOCAL_SECONDS = 120.0
SUSPECT = "bb-release-suspect"  # an empty file in a mirror: the next fetch reads every object
SOUND = "bb-release-sound"  # how the objects looked when every one of them was known to be there
# core.fsync: by default git syncs nothing of a small fetch (reliability.md, P11); hooksPath, fsmonitor: code
_SETTINGS = (
    "core.fsync=all", "transfer.unpackLimit=1", "gc.auto=0", "maintenance.auto=false",
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null",
    "transfer.fsckObjects=true", "credential.helper=",
)  # fmt: skip
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_CONFIG_SHA256 = _CONFIG.replace("= 0", "= 1") + "[extensions]\n\tobjectformat = sha256\n"
# wins over every .gitattributes in the tree (gitattributes(5)), so that files leave git byte for byte
_ATTRIBUTES = "* -text !eol !crlf -ident !filter !working-tree-encoding\n"
# each can point git elsewhere, hide missing objects, or run code: gitrepository-layout(5)
_PLANTABLE = (
    "commondir", "config.worktree", "objects/info/alternates", "objects/info/http-alternates", "info/grafts",
    "shallow", "remotes", "branches", "hooks",
)  # fmt: skip


def argv(where: Path, *words: str, access: Access | None = None) -> list[str]:
    """git with every setting named, on exactly this repository (never one found from the working folder).

    Raises ConfigurationInvalid for a credentials file that others can read.
    """
    settings = list(_SETTINGS)
    if access is not None and access.credentials is not None:
        check_secret(access.credentials)
        # get only: git tells a helper to `erase` what a server refused, and `store` would rewrite the file for it
        get = f"git credential-store --file={shlex.quote(str(access.credentials))} get"
        settings.append(f'credential.helper=!answer() {{ if [ "$1" = get ]; then {get}; fi; }}; answer')
    return ["git", f"--git-dir={where}", *(word for setting in settings for word in ("-c", setting)), *words]


def settle(mirror: Path) -> None:
    """Make sure the mirror is ours and its configuration is the known one. Raises MirrorNotUpdated."""
    try:
        found = mirror.lstat()
    except FileNotFoundError:
        raise MirrorNotUpdated(f"there is no mirror at {mirror}", remedy="Deploy: it is then cloned.") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise MirrorNotUpdated(
            f"{mirror} is no folder, or belongs to user {found.st_uid} and not to {os.geteuid()}",
            remedy=f"chown -R {os.geteuid()} {shlex.quote(str(mirror))}, or remove it: it is cloned anew.",
        )
    for name in _PLANTABLE:
        remove(mirror / name)
    config, attributes = mirror / "config", mirror / "info" / "attributes"
    try:
        is_sha256 = b"objectformat = sha256" in config.read_bytes()  # a lie only makes the mirror look broken
    except OSError:
        is_sha256 = False
    if attributes.parent.is_symlink() or not attributes.parent.is_dir():
        remove(attributes.parent)
        attributes.parent.mkdir()
    for path, known in ((config, _CONFIG_SHA256 if is_sha256 else _CONFIG), (attributes, _ATTRIBUTES)):
        if path.is_symlink() or not path.is_file() or path.read_bytes() != known.encode():
            remove(path)
            fresh = path.with_name(path.name + ".fresh")
            remove(fresh)
            fresh.write_text(known, "utf-8")
            fresh.replace(path)


def clear_leftovers(mirror: Path) -> None:
    """Remove what a killed git left: its locks block every later fetch (reliability.md, P10).

    No branch can end in .lock, but one may be named tmp_x: so those only go below objects/.
    """
    for folder, folders, files in os.walk(mirror):
        inside = Path(folder)
        in_objects = inside.relative_to(mirror).parts[:1] == ("objects",)
        for name in [*files, *folders]:
            if (name.endswith(".lock") and name in files) or (in_objects and name.startswith("tmp_")):
                remove(inside / name)


def is_as_left(mirror: Path) -> bool:
    """Does nothing speak against a mirror that was whole: the same boot, the same files, and no export that failed?

    A power cut may take what was written, so another boot knows nothing (the note itself is not flushed either).
    """
    try:
        return not (mirror / SUSPECT).exists() and (mirror / SOUND).read_text("utf-8") == _look(mirror)
    except (OSError, ValueError):
        return False


def note_sound(mirror: Path) -> None:
    """Note how a mirror looks in which every object is there. Raises OSError."""
    remove(mirror / SUSPECT)
    (mirror / SOUND).write_text(_look(mirror), "utf-8")


def _look(mirror: Path) -> str:
    """The boot, and each file of objects by its size and the last time that anything changed it. Raises OSError."""
    from bb_release.tools.host import boot_id  # what only asks the remote needs nothing of the host

    seen = []
    for folder, _, files in os.walk(mirror / "objects"):
        for name in files:
            facts = os.lstat(f"{folder}/{name}")
            path = os.path.relpath(f"{folder}/{name}", mirror)
            seen.append(f"{path} {facts.st_size} {facts.st_ino} {facts.st_ctime_ns}\n")
    return f"{boot_id()}\n{hashlib.sha256(os.fsencode(''.join(sorted(seen)))).hexdigest()}\n"


def remove(path: Path) -> None:
    """Remove a file, link or folder, where there is one; never follows a link."""
    if path.is_dir() and not path.is_symlink():
        import shutil  # brings what unpacks archives; a timer with nothing to do removes nothing

        try:
            shutil.rmtree(path)
        except OSError as error:
            error.filename = str(path)  # it says but the last part of what is below
            raise
    else:
        path.unlink(missing_ok=True)
