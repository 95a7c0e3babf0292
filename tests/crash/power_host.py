"""What the tests of power loss ask of the machine: private mounts, loop devices, images, and a power switch."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil

import required

FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), include/uapi/linux/fs.h; ext4 and xfs know it
NOLOGFLUSH = 2  # nothing more goes to the disk: neither data nor the journal
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
NOBODY = 65534
BOOT_ID = "/proc/sys/kernel/random/boot_id"
EXT4 = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", f"root_owner={NOBODY}:{NOBODY},lazy_itable_init=0"]
MAKE = {
    "ext4": [*EXT4, "-i", "4096"],
    "ext4-writeback": [*EXT4, "-i", "4096"],
    "ext4-few-inodes": [*EXT4, "-N", "45000"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
OPTIONS = {"ext4": "loop", "ext4-few-inodes": "loop", "ext4-writeback": "loop,data=writeback", "xfs": "loop,nouuid"}
libc = ctypes.CDLL(None, use_errno=True)


def everything() -> bool:
    """Does this session try every point, or the sample of the ordinary run?"""
    return os.environ.get("BB_ALL") == "1"


def require(condition: object, what: str) -> None:
    """Say loudly what cannot be shown on this machine; an error where crash tests are required."""
    required.require("CRASH_TESTS", bool(condition), f"there is no {what}")


def require_mounts(kind: str) -> None:
    """May we make, mount and shut down a file system of this kind?"""
    require(os.geteuid() == 0, "right to mount (not root)")
    required.require_program(MAKE[kind][0])
    require(can_mount(kind), f"{kind} on a loop device with FS_IOC_SHUTDOWN")


@cache
def can_mount(kind: str) -> bool:
    """Tried once, in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            enter_private_mounts()
            with tempfile.TemporaryDirectory() as folder:
                image, point = Path(folder) / "image", Path(folder) / "point"
                point.mkdir()
                make_image(image, kind)
                with mounted(image, kind, point):
                    cut_power(point)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def enter_private_mounts() -> None:
    """What this process mounts from now on is seen by it and its children only, and ends with them."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    check(libc.unshare(CLONE_NEWNS), "unshare")
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate")


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def quick_folder() -> Path:
    """A folder for images: in memory where there is room for them, since each point needs a fresh copy."""
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() and shutil.disk_usage(memory).free > 3_000_000_000 else None
    folder = Path(tempfile.mkdtemp(prefix="bb-images-", dir=where))
    folder.chmod(0o755)
    return folder


def make_image(image: Path, kind: str, megabytes: int = 400) -> None:
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    run([*MAKE[kind], str(image)])


def copy_image(image: Path, to: Path) -> None:
    """A copy with the same holes; what was there under the name is a new file, never written over."""
    to.unlink(missing_ok=True)
    run(["cp", "--sparse=always", "--reflink=auto", str(image), str(to)])


def run(argv: list[str]) -> None:
    done = subprocess.run(
        argv, capture_output=True, text=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr or done.stdout}")


@contextmanager
def mounted(image: Path, kind: str, point: Path) -> Iterator[None]:
    """The image at the mount point; afterwards unmounted, its loop device free."""
    run(["mount", "-o", OPTIONS[kind], "-t", kind.partition("-")[0], str(image), str(point)])
    try:
        yield
    finally:
        unmount(point)
        wait_detached(image)


@contextmanager
def another_boot(folder: Path) -> Iterator[None]:
    """The kernel names another boot, as it does after a power cut; seen in our own mounts only."""
    name = folder / "boot_id"
    name.write_text(f"{uuid.uuid4()}\n")
    name.chmod(0o644)
    run(["mount", "--bind", str(name), BOOT_ID])
    try:
        yield
    finally:
        run(["umount", BOOT_ID])
        name.unlink()


def unmount(point: Path) -> None:
    """Unmount; a program that is still being ended may hold it for a moment."""
    deadline = time.monotonic() + 20
    while subprocess.run(["umount", point], capture_output=True).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{point} is still in use: {users_of(point)}")
        time.sleep(0.05)


def wait_detached(image: Path) -> None:
    """The loop device lets go of its file a moment after the unmount."""
    deadline = time.monotonic() + 20
    while any(name_of(path) == str(image) for path in Path("/sys/block").glob("loop*/loop/backing_file")):
        if time.monotonic() > deadline:
            raise RuntimeError(f"a loop device keeps {image}")
        time.sleep(0.02)


def name_of(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # it was freed meanwhile
        return ""


def users_of(point: Path) -> list[str]:
    """Processes with an open file or their working folder below a mount point."""
    found = []
    for process in psutil.process_iter():
        try:
            paths = [process.cwd(), *(file.path for file in process.open_files())]
        except psutil.Error:
            continue
        if any(path == str(point) or path.startswith(f"{point}/") for path in paths):
            found.append(f"{process.pid} {process.name()}")
    return found


def cut_power(point: Path) -> None:
    """From now on nothing reaches the disk: what was not flushed is gone, as when the plug is pulled."""
    descriptor = os.open(point, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
    finally:
        os.close(descriptor)


def end_tree(pid: int) -> None:
    """Kill a process of ours with all that it started."""
    try:
        top = psutil.Process(pid)
        top.suspend()
        family = [*top.children(recursive=True), top]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)
