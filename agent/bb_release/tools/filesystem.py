"""What kind of file system a path lies on, how full it is, and who may do what there. Looks only."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# renames and locks of these are not what a local disk promises
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "afs", "fuse.sshfs", "fuse.glusterfs",
           "lustre", "ocfs2", "gfs2"}  # fmt: skip

# where files can share their blocks and yet be two: ioctl_ficlone(2)
REFLINKS = {"btrfs", "xfs", "bcachefs"}


def kind(path: Path) -> str:
    """The type of the file system, such as "ext4"; "" when the kernel does not say. Raises OSError.

    proc(5), mountinfo: the third field is the device, the mount point the fifth, and after " - " comes the type.
    """
    wanted = str(path.resolve(strict=True))
    best, found = "", ""
    for line in MOUNTS.read_text("utf-8", "replace").splitlines():
        head, _, tail = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), head.split(" ")[4])
        if (wanted == point or wanted.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, found = point, tail.split(" ")[0]
    return found


def free(path: Path) -> tuple[int, int]:
    """Return the free bytes and free inodes for this user on the path's file system. Raises OSError.

    File systems that know no limit of inodes (btrfs) say 0 of 0: that is returned as a very large number.
    """
    facts = os.statvfs(path)
    inodes = facts.f_favail if facts.f_files else 2**63 - 1
    return facts.f_bavail * facts.f_frsize, inodes


def tree_size(path: Path) -> tuple[int, int]:
    """Return the bytes and the count of inodes (files and folders) that a tree has for itself alone.

    A file that has another name too, perhaps elsewhere, is not counted: removing the tree would not free it.
    Bytes are what the disk gave, and at least each file's size. Raises OSError where a folder is unreadable.
    """
    facts = path.lstat()
    total, count, ahead = max(facts.st_size, facts.st_blocks * 512), 1, [str(path)]
    while ahead:
        try:
            entries = os.scandir(ahead.pop())
        except FileNotFoundError:  # another process removes here
            continue
        with entries:
            for entry in entries:
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder:
                    ahead.append(entry.path)
                if is_folder or facts.st_nlink == 1:
                    total += max(facts.st_size, facts.st_blocks * 512)
                    count += 1
    return total, count


def name_of(uid: int) -> str:
    """A user's name, or #uid for one without."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def group_name(gid: int) -> str:
    """A group's name, or #gid for one without."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"#{gid}"


def group_of(user: str) -> str:
    """The name of the user's own group. Raises KeyError."""
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def groups_of(user: str) -> tuple[int, set[int]]:
    """The user's number, and all groups. Raises KeyError for a user that is not there."""
    entry = pwd.getpwnam(user)
    return entry.pw_uid, set(os.getgrouplist(user, entry.pw_gid))


def may(user: str, facts: os.stat_result, wish: int) -> bool:
    """Whether the user may read (4), write (2) or enter (1), by owner, group and mode; without access lists."""
    uid, groups = groups_of(user)
    shift = 6 if facts.st_uid == uid else 3 if facts.st_gid in groups else 0
    return uid == 0 or (stat.S_IMODE(facts.st_mode) >> shift) & wish == wish


def not_writable(user: str, top: Path, most: int = 5000) -> Iterator[Path]:
    """What below `top`, itself included, the user cannot write; looks at `most` entries. Raises OSError."""
    wish = 3 if top.is_dir() else 2
    if not may(user, top.stat(), wish):
        yield top
    seen = 0
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            seen += 1
            if seen > most:
                return
            path = Path(folder) / name
            facts = path.lstat()
            if not stat.S_ISLNK(facts.st_mode) and not may(user, facts, 3 if name in folders else 2):
                yield path


def umask() -> int:
    """The umask of this process, without changing it. proc(5), status."""
    found = re.search(r"(?m)^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text("utf-8"))
    return int(found[1], 8) if found else 0o022


def open_parents(folder: Path) -> list[Path]:
    """The folders above in which everyone may rename what is not theirs: without the sticky bit (chmod(2)).

    Where a link leads elsewhere, the folders above that place count as well.
    """
    modes = {path: path.stat().st_mode for path in _above(folder)}
    return [path for path, mode in modes.items() if mode & stat.S_IWOTH and not mode & stat.S_ISVTX]


def parents_of_others(folder: Path, owner: int) -> list[tuple[Path, str]]:
    """The folders above in which another than root and `owner` may rename what is there; each with who that is.

    A user's own group, of the same name, is the user; and a group counts when it has somebody else in it (staff of
    Debian's /var/local has nobody).
    """
    found = []
    for path in _above(folder):
        facts = path.stat()
        if facts.st_uid not in (0, owner):
            found.append((path, name_of(facts.st_uid)))
        group = group_name(facts.st_gid)
        by_group = facts.st_mode & stat.S_IWGRP and not facts.st_mode & stat.S_ISVTX
        if by_group and facts.st_gid and group != name_of(owner) and _members(facts.st_gid) - {"root", name_of(owner)}:
            found.append((path, f"the group {group}"))
    return found


def _members(gid: int) -> set[str]:
    """Who is in a group, as far as this host lists its users; for one without a name that is its number."""
    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:
        return {f"#{gid}"}
    return {*members, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == gid)}


def _above(folder: Path) -> dict[Path, None]:
    return dict.fromkeys((*folder.parents, *folder.resolve().parents))
