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

    count, ahead = 0, [""]
    top.chmod(0o755)
    while ahead:
        place = ahead.pop()
        with os.scandir(f"{top}/{place}") as entries:
            for entry in entries:  # no Path is made of each: there are thousands
                name, facts = f"{place}{entry.name}", entry.stat(follow_symlinks=False)
                is_folder = stat.S_ISDIR(facts.st_mode)
                if is_folder:
                    ahead.append(f"{name}/")
                else:
                    count += 1
                if stat.S_ISLNK(facts.st_mode):
                    _require_inside(name, entry.path, target_at)
                    continue
                mode = 0o755 if is_folder or facts.st_mode & stat.S_IXUSR else 0o644
                if stat.S_IMODE(facts.st_mode) != mode:
                    os.chmod(entry.path, mode)  # noqa: PTH101
                if pointer_at(entry.path, facts):
                    raise TreeNotExported(
                        f"{name} is a pointer of Git LFS and not the file itself",
                        remedy="Set lfs = true; or put the files into git (git lfs migrate export),"
                        " or into the archive.",
                    )
    return count


def _require_inside(name: str, path: str, target_at: Callable[[Sequence[str]], str | None]) -> None:
    target = os.readlink(path)
    if leads_out(name.split("/"), target, target_at):
        raise TreeNotExported(
            f"the link {name} is absolute or leads out of the tree",
            details=target, remedy="Make it relative and within the repository.",
        )  # fmt: skip


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
