"""Git LFS: finds pointer files, and puts in their place the objects that they name, each proven by its hash.

The program git-lfs fetches. Nothing of the tree's `.lfsconfig` counts but its url, which is checked like the
repository's. Its form is https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bb_release.errors import TreeNotExported
from bb_release.tools import process
from bb_release.tools.bare import LOCAL_SECONDS, argv, remove
from bb_release.tools.git_access import Access, Origin, check_url, git_environment, secrets_of

_LARGEST = 1024  # the specification's: a pointer is smaller
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(ext-\S+ \S+\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]+)\n?"
)


@dataclass(frozen=True)
class Pointer:
    """A pointer file, and the hash and bytes of what belongs there."""

    path: Path
    oid: str
    size: int


def pointer_at(path: Path | str, facts: os.stat_result | None = None) -> Pointer | None:
    """What a file points to, or None for an ordinary file or a link. Raises TreeNotExported for an extension.

    `facts`: what lstat(2) says of it, for whoever has asked already.
    """
    found = facts or os.lstat(path)
    if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size < _LARGEST:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, _LARGEST)
    finally:
        os.close(descriptor)
    match = _POINTER.fullmatch(content)
    if match is None:
        return None
    if match[1]:
        raise TreeNotExported(
            f"{Path(path).name} went through an extension of Git LFS, which is not supported",
            remedy="Store the file without the extension (git lfs ext), and push.",
        )
    return Pointer(Path(path), match[2].decode(), int(match[3]))


def pointers(top: Path) -> Iterator[Pointer]:
    """Every pointer file of a tree."""
    for folder, _, files in os.walk(top):
        for name in files:
            found = pointer_at(Path(folder) / name)
            if found is not None:
                yield found


def write_objects(
    mirror: Path, revision: str, top: Path, scratch: Path, *, url: str, origin: Origin, timeout_seconds: float,
    on_line: Callable[[str], None] | None, pass_fds: Sequence[int] = (),
) -> None:  # fmt: skip
    """Replace every pointer file below `top` by its object, from the mirror's cache or else from the remote.

    `scratch` is a folder on the same file system. Raises TreeNotExported: git-lfs is not installed or failed,
    or an object is missing or is not what its pointer says.
    """
    left = [each for each in pointers(top) if not _write(mirror, each, scratch)]
    if left:
        _fetch(mirror, revision, url, origin, timeout_seconds=timeout_seconds, on_line=on_line, pass_fds=pass_fds)
        left = [each for each in left if not _write(mirror, each, scratch)]
    if left:
        raise TreeNotExported(
            f"{len(left)} object(s) of Git LFS are missing at the remote, or are not what their pointers say",
            details="\n".join(f"{each.path.relative_to(top)} {each.oid}" for each in left[:40]),
            remedy="Push them from a clone that has them: git lfs push --all origin",
        )


def _write(mirror: Path, pointer: Pointer, scratch: Path) -> bool:
    """Copy one object from the cache over its pointer; a cached one that is not what it should be goes."""
    cached = mirror / "lfs" / "objects" / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid
    staged = scratch / "object"
    digest = hashlib.sha256()
    try:
        source = os.open(cached, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    with open(source, "rb") as stream, staged.open("wb") as written:  # noqa: PTH123 - a descriptor, not a path
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            written.write(chunk)
        size = written.tell()
    if (digest.hexdigest(), size) != (pointer.oid, pointer.size):
        remove(staged)
        remove(cached)
        return False
    staged.chmod(stat.S_IMODE(pointer.path.lstat().st_mode))
    staged.replace(pointer.path)
    return True


def _fetch(
    mirror: Path, revision: str, url: str, origin: Origin, *, timeout_seconds: float,
    on_line: Callable[[str], None] | None, pass_fds: Sequence[int],
) -> None:  # fmt: skip
    """Have git-lfs bring the objects of one revision into the mirror's cache. Raises TreeNotExported."""
    if shutil.which("git-lfs", path=process.PATH) is None:
        raise TreeNotExported(
            "the tree has files of Git LFS, and the program git-lfs is not installed here",
            remedy="Install it (on Debian: apt-get install git-lfs), then deploy again.",
        )
    mask = process.Mask(secrets_of(origin.access))
    # a url given so wins over every .lfsconfig, also over that of another revision, which git-lfs would read.
    # Objects go to <mirror>/lfs of themselves; lfs.storage would be taken for the remote's too [tried, 3.3.0]
    settings = {
        "lfs.url": _endpoint(mirror, revision, url, origin.access), "remote.origin.url": url,
        "lfs.fetchinclude": "", "lfs.fetchexclude": "",
    }  # fmt: skip
    words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    try:
        process.run(
            [*argv(mirror, *words, access=origin.access), "lfs", "fetch", "origin", revision],
            env=git_environment(origin.access), timeout_seconds=timeout_seconds, pass_fds=pass_fds,
            on_line=lambda line: on_line(mask(line)) if on_line else None,
        )  # fmt: skip
    except process.ProcessFailed as error:
        raise TreeNotExported(
            f"git-lfs could not fetch the objects of {revision}: it {error.reason}", details=mask(error.output),
            remedy="See that the host serves Git LFS and accepts the deploy key or credentials for it, and that the "
            "objects were pushed (git lfs push --all origin); then deploy again.",
        ) from error  # fmt: skip


def _endpoint(mirror: Path, revision: str, url: str, access: Access) -> str:
    """Where the objects are: what the revision's own .lfsconfig says, else the repository's place for them.

    Raises ConfigurationInvalid for a url that a repository could not have either, TreeNotExported.
    """
    try:
        done = process.run(
            argv(mirror, "config", f"--blob={revision}:.lfsconfig", "--no-includes", "--get", "lfs.url"),
            env=git_environment(Access()), timeout_seconds=LOCAL_SECONDS, capture=True, check=False,
        )  # fmt: skip
    except process.ProcessFailed as error:
        raise TreeNotExported(
            f"git could not be asked for .lfsconfig: it {error.reason}", remedy="Deploy again."
        ) from error
    named = done.output.strip() if done.returncode == 0 else ""
    if named:
        check_url(named, allow_file=access.allow_file)
        return named
    if url.startswith("https://"):  # docs/api/server-discovery.md of git-lfs
        return f"{url.rstrip('/').removesuffix('.git')}.git/info/lfs"
    return f"file://{url}" if url.startswith("/") else url
