"""The exact tree of a revision, written out of a bare mirror: byte for byte, and checked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bb_release.errors import TreeNotExported
from bb_release.tools import process
from bb_release.tools.bare import FULL_HASH, argv, remove, settle
from bb_release.tools.git_access import Access, git_environment
from bb_release.tools.tree import check_tree


def export_tree(
    mirror: Path,
    revision: str,
    into: Path,
    *,
    timeout_seconds: float,
    pass_fds: Sequence[int] = (),
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Write the exact tree of a full hash into an empty folder: no filter, export-ignore or new line ends.

    Not `git archive`, which obeys export-ignore and export-subst. The caller syncs the folder to disk, and
    throws it away after a failure. git's index lies beside the tree, so that what a killed agent left of it
    goes with the release. Raises TreeNotExported (missing objects, submodules, Git LFS, links that lead out of
    the tree), MirrorNotUpdated without a mirror.
    """
    into.mkdir(parents=True, exist_ok=True)
    if not FULL_HASH.match(revision) or into.is_symlink() or os.listdir(into):
        raise TreeNotExported(
            f"{revision[:64]!r} is not a full hash, or {into} is not an empty folder", remedy="Deploy again."
        )
    settle(mirror)
    deadline = time.monotonic() + timeout_seconds
    scratch = into.with_name(f".{into.name}.index")
    remove(scratch)
    scratch.mkdir()
    environment = git_environment(Access()) | {"GIT_INDEX_FILE": str(scratch / "index")}

    def git(*words: str, capture: bool = False) -> str:
        return process.run(
            [*argv(mirror, f"--work-tree={into}"), *words], cwd=into, env=environment, on_line=on_line,
            timeout_seconds=max(0.1, deadline - time.monotonic()), capture=capture, pass_fds=pass_fds,
        ).output  # fmt: skip

    try:
        entries = [e for e in git("ls-tree", "-r", "-z", "--full-tree", revision, capture=True).split("\0") if e]
        modules = [entry.partition("\t")[2] for entry in entries if entry.startswith("160000 ")]
        if modules:
            raise TreeNotExported(
                "the repository has submodules, which are not supported", details="\n".join(modules),
                remedy="Put their files into the repository (git subtree), or require them as packages.",
            )  # fmt: skip
        git("read-tree", revision)
        git("checkout-index", "--all", "--force", "--quiet")
    except process.ProcessFailed as error:
        raise TreeNotExported(
            f"the tree of {revision} could not be written: {error}", details=error.output,
            remedy="Deploy again: a broken mirror is cloned anew. Check the free space if it stays so.",
        ) from error  # fmt: skip
    finally:
        remove(scratch)
    if check_tree(into) != len(entries):
        raise TreeNotExported(f"the tree of {revision} is not complete", remedy="Deploy again.")
