"""A tree that came from a repository: explicit modes, and no link that leads out of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bb_release.errors import TreeNotExported
from bb_release.tools.lfs import pointer_at


def check_tree(top: Path) -> int:
    """Set the modes, refuse escaping links and pointers of Git LFS; return how many files and links there are."""
    count = 0
    top.chmod(0o755)
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            count += not stat.S_ISDIR(mode)
            if stat.S_ISLNK(mode):
                if _leads_out(top, path):
                    raise TreeNotExported(
                        f"the link {path.relative_to(top)} is absolute or leads out of the tree",
                        details=str(path.readlink()), remedy="Make it relative and within the repository.",
                    )  # fmt: skip
                continue
            path.chmod(0o755 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o644)
            if pointer_at(path):
                raise TreeNotExported(
                    f"{path.relative_to(top)} is a pointer of Git LFS and not the file, and Git LFS is off",
                    remedy="Set lfs = true; or put the files into git itself (git lfs migrate export).",
                )
    return count


def _leads_out(top: Path, link: Path) -> bool:
    """Follow a link step by step: True when any step is absolute, above the top, or goes round in circles."""
    at = list(link.relative_to(top).parent.parts)
    ahead = [*reversed(str(link.readlink()).split("/"))]
    if link.readlink().is_absolute():
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
            here = top.joinpath(*at)
            if here.is_symlink():
                target = str(here.readlink())
                followed += 1
                if target.startswith("/") or followed > 40:  # the kernel's own limit: path_resolution(7)
                    return True
                at.pop()
                ahead += reversed(target.split("/"))
    return False
