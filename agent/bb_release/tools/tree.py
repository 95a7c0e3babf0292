"""A tree that came from a repository: explicit modes, and no link that leads out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from bb_release.errors import TreeNotExported
from bb_release.tools.lfs import pointer_at


def check_tree(top: Path) -> int:
    """Set the modes, refuse escaping links and pointers of Git LFS; return how many files and links there are."""

    def target_at(parts: Sequence[str]) -> str | None:
        here = top.joinpath(*parts)
        return str(here.readlink()) if here.is_symlink() else None

    count = 0
    top.chmod(0o755)
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            count += not stat.S_ISDIR(mode)
            if stat.S_ISLNK(mode):
                if leads_out(path.relative_to(top).parts, str(path.readlink()), target_at):
                    raise TreeNotExported(
                        f"the link {path.relative_to(top)} is absolute or leads out of the tree",
                        details=str(path.readlink()), remedy="Make it relative and within the repository.",
                    )  # fmt: skip
                continue
            path.chmod(0o755 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o644)
            if pointer_at(path):
                raise TreeNotExported(
                    f"{path.relative_to(top)} is a pointer of Git LFS and not the file itself",
                    remedy="Set lfs = true; or put the files into git (git lfs migrate export), or into the archive.",
                )
    return count


def leads_out(place: Sequence[str], target: str, target_at: Callable[[Sequence[str]], str | None]) -> bool:
    """Follow a link step by step: True when any step is absolute, above the top, or goes round in circles.

    `place` are the parts of the link's own path below the top; `target_at` says where the link at such a path
    leads, None where there is none.
    """
    at = list(place[:-1])
    ahead = [*reversed(target.split("/"))]
    if target.startswith("/"):
        return True
    followed = 0
    while ahead:
        step = ahead.pop()
        if step == ".." and not at:
            return True
        if step == "..":
            at.pop()
        elif step not in ("", "."):
            at.append(step)
            further = target_at(at)
            if further is not None:
                followed += 1
                if further.startswith("/") or followed > 40:  # the kernel's own limit: path_resolution(7)
                    return True
                at.pop()
                ahead += reversed(further.split("/"))
    return False
