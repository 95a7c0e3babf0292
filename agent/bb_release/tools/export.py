"""The exact tree of a revision, written out of a bare mirror: byte for byte, and checked."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bb_release.errors import TreeNotExported, shortened
from bb_release.tools import lfs, process, submodules
from bb_release.tools.bare import FULL_HASH, SUSPECT, argv, remove, settle
from bb_release.tools.git_access import Access, Origin, git_environment
from bb_release.tools.tree import check_tree

_ENTRY = re.compile(r"(?P<mode>[0-7]{6}) [a-z]+ (?P<hash>[0-9a-f]+)\t(?P<path>[^\0]+)\0")


def export_tree(
    mirror: Path,
    revision: str,
    into: Path,
    *,
    timeout_seconds: float,
    origin: Origin | None = None,
    pass_fds: Sequence[int] = (),
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Write the exact tree of a full hash into an empty folder: no filter, export-ignore or new line ends.

    Not `git archive`, which obeys export-ignore and export-subst. `origin` says whether submodules and objects
    of Git LFS are fetched and written too; without it both are errors. The caller syncs the folder to disk, and
    throws it away after a failure. git's index lies beside the tree, so that what a killed agent left of it
    goes with the release. Raises TreeNotExported (missing objects, submodules, Git LFS, links that lead out of
    the tree), MirrorNotUpdated without a mirror, and what `mirror.fetch` raises.
    """
    origin = origin or Origin()
    into.mkdir(parents=True, exist_ok=True)
    if not FULL_HASH.match(revision) or into.is_symlink() or os.listdir(into):
        raise TreeNotExported(
            f"{shortened(revision, 64)!r} is not a full hash, or {into} is not an empty folder", remedy="Deploy again."
        )
    deadline = time.monotonic() + timeout_seconds
    scratch = into.with_name(f".{into.name}.index")
    remove(scratch)
    scratch.mkdir()
    entries, modules = 0, 0
    ahead = [(mirror, revision, "", origin.url, 0)]
    try:
        while ahead:
            repository, wanted, path, url, depth = ahead.pop()
            left = max(0.1, deadline - time.monotonic())
            files, pinned = _write(repository, wanted, into / path, scratch, left, pass_fds, on_line)
            entries += files
            if origin.lfs:
                lfs.write_objects(
                    repository, wanted, into / path, scratch, url=url, origin=origin,
                    timeout_seconds=origin.fetch_seconds, on_line=on_line, pass_fds=pass_fds,
                )  # fmt: skip
            modules += len(pinned)
            _require_wanted(pinned, modules, depth, origin)
            urls = submodules.urls(repository, wanted, url) if pinned else {}
            for name, commit in pinned.items():
                place = f"{path}/{name}" if path else name
                if name not in urls:
                    raise TreeNotExported(
                        f"submodule {place} is not in .gitmodules",
                        remedy="Add it with `git submodule add`, or remove it with `git rm`, and push.",
                    )
                if (into / place).resolve() != into.resolve() / place:  # never through a link of the tree
                    raise TreeNotExported(f"submodule {place} lies behind a link", remedy="Move it, and push.")
                bare = submodules.bring(origin, place, urls[name], commit, on_line=on_line, pass_fds=pass_fds)
                ahead.append((bare, commit, place, urls[name], depth + 1))
    finally:
        remove(scratch)
    if check_tree(into) != entries:
        raise TreeNotExported(f"the tree of {revision} is not complete", remedy="Deploy again.")


def _require_wanted(pinned: dict[str, str], modules: int, depth: int, origin: Origin) -> None:
    """Raises TreeNotExported for submodules that are off, too many or too deep."""
    if pinned and origin.submodules is None:
        raise TreeNotExported(
            "the repository has submodules, and they are off", details="\n".join(pinned),
            remedy="Set submodules = true; or put their files into the repository (git subtree).",
        )  # fmt: skip
    if modules > submodules.MOST or (pinned and depth >= submodules.MOST_DEEP):
        raise TreeNotExported(
            f"there are more than {submodules.MOST} submodules, or they nest deeper than {submodules.MOST_DEEP}",
            details="\n".join(pinned),
            remedy="See whether a submodule contains itself; else require them as packages.",
        )


def _write(
    mirror: Path, revision: str, into: Path, scratch: Path, seconds: float, pass_fds: Sequence[int],
    on_line: Callable[[str], None] | None,
) -> tuple[int, dict[str, str]]:  # fmt: skip
    """Write one repository's tree; return how many files and links it has, and what it pins where."""
    settle(mirror)
    deadline = time.monotonic() + seconds
    environment = git_environment(Access()) | {"GIT_INDEX_FILE": str(scratch / "index")}

    def git(*words: str, capture: bool = False) -> str:
        return process.run(
            [*argv(mirror, f"--work-tree={into}"), *words], cwd=into, env=environment, on_line=on_line,
            timeout_seconds=max(0.1, deadline - time.monotonic()), capture=capture, pass_fds=pass_fds,
        ).output  # fmt: skip

    try:
        files, pinned = read_tree(git("ls-tree", "-r", "-z", "--full-tree", revision, capture=True))
        # a third less work than read-tree and checkout-index; two write a third faster than one [50,000 files, ext4],
        # and a third one nothing more. git before 2.32 knows no such setting, and few files are written by one
        git("-c", "checkout.workers=2", "read-tree", "--reset", "-u", revision)
    except process.ProcessFailed as error:
        with suppress(OSError):  # on a full disk it is the disk that is at fault
            (mirror / SUSPECT).touch()
        raise TreeNotExported(
            f"the tree of {revision} could not be written: {error}", details=error.output,
            remedy="Deploy again: a broken mirror is cloned anew. Check the free space if it stays so.",
        ) from error  # fmt: skip
    return files, pinned


def read_tree(listed: str) -> tuple[int, dict[str, str]]:
    """How many files and links `git ls-tree -z` lists, and the commit of each submodule. Raises TreeNotExported."""
    pinned, files, at = {}, 0, 0
    while at < len(listed):  # no list is made of it: there may be a hundred thousand
        facts = _ENTRY.match(listed, at)
        if facts is None or (facts["mode"] == "160000" and not FULL_HASH.match(facts["hash"])):
            entry = shortened(listed[at : at + 4096].split("\0")[0], 80)
            raise TreeNotExported(f"git lists {entry!r}, which is no file of a tree", remedy="Deploy again.")
        at = facts.end()
        if facts["mode"] == "160000":
            pinned[facts["path"]] = facts["hash"]
        else:
            files += 1
    return files, pinned
