"""What is read of the host, with real processes and real folders."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bb_release.tools import filesystem, host

Start = Callable[..., "subprocess.Popen[bytes]"]
WAIT = "import time; time.sleep(60)"


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    for name in ("a", "b", "b-2"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    return tmp_path / "releases"


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(*argv: str, cwd: Path | str = "/", **env: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL)
        started.append(process)
        time.sleep(0.3)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_free(tmp_path: Path) -> None:
    size, inodes = filesystem.free(tmp_path)
    assert size > 0
    assert inodes > 0
    with pytest.raises(OSError, match="nowhere"):
        filesystem.free(tmp_path / "nowhere")


def test_tree_size(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    before = filesystem.tree_size(tmp_path)
    assert before[0] >= 100_000
    assert before[1] == 3
    (tmp_path / "link").symlink_to(tmp_path)
    assert filesystem.tree_size(tmp_path)[1] == 4
    os.link(tmp_path / "f", tmp_path / "d" / "same")  # so it is not this tree's alone
    after = filesystem.tree_size(tmp_path)
    assert after[1] == 3
    assert after[0] < 100_000
    with pytest.raises(FileNotFoundError):
        filesystem.tree_size(tmp_path / "nowhere")


def test_processes(start: Start) -> None:
    began = time.time()
    parent = start("/bin/sh", "-c", "sleep 60 & wait")
    tree = host.process_tree(parent.pid)
    assert parent.pid in tree
    assert len(tree) == 2
    started = host.started_at(parent.pid)
    assert started is not None
    assert abs(started - began) < 3
    child = next(pid for pid in tree if pid != parent.pid)
    assert host.alive(child)
    os.kill(child, 9)
    time.sleep(0.2)
    parent.wait(5)
    assert not host.alive(parent.pid)
    assert host.process_tree(parent.pid) == []
    assert host.started_at(parent.pid) is None


def test_alive(start: Start) -> None:
    assert host.alive(os.getpid())
    assert host.alive(1)
    assert not host.alive(0)
    ended = start("/bin/true")
    assert not host.alive(ended.pid)  # ended, but not yet collected


def test_release_by_folder(start: Start, releases: Path) -> None:
    process = start("sleep", "60", cwd=releases / "a")
    assert host.release_of(process.pid, releases) == ({"a"}, False)
    assert host.releases_in_use(releases)[0] == {"a": [process.pid]}
    shutil.rmtree(releases / "a")
    assert host.release_of(process.pid, releases) == ({"a"}, False)  # removed, but still used
    assert host.releases_in_use(releases)[0] == {}  # no entry any more


def test_evidence_tells_the_folder_by_its_inode_and_not_by_its_path(start: Start, releases: Path) -> None:
    ordered_at = host.boot_clock()
    process = start("sleep", "60", cwd=releases / "a", BB_RELEASE="a")
    seen = host.evidence(process.pid, releases / "a")
    assert seen is not None
    assert (True, frozenset("a"), frozenset("a"), False) == (seen.inside, seen.names, seen.uses, seen.closed)
    assert seen.started is not None
    assert ordered_at - 0.02 < seen.started < host.boot_clock()
    other = host.evidence(process.pid, releases / "b")
    assert other is not None
    assert not other.inside
    (releases / "a").rmdir()
    gone = host.evidence(process.pid, releases / "a")
    assert gone is not None
    assert not gone.inside
    (releases / "a").mkdir()  # the same path again, but another folder
    again = host.evidence(process.pid, releases / "a")
    assert again is not None
    assert not again.inside


def test_evidence_takes_only_the_first_words_for_a_name_but_any_word_for_a_use(start: Start, releases: Path) -> None:
    process = start(sys.executable, "-c", WAIT, f"{releases}/b/x")
    seen = host.evidence(process.pid, releases / "b")
    assert seen is not None
    assert (frozenset(), frozenset("b")) == (seen.names, seen.uses)


def test_release_by_command_line(start: Start, releases: Path) -> None:
    process = start(sys.executable, "-c", WAIT, f"--chdir={releases}/b-2", f"{releases.parent}/x/releases/a")
    assert host.release_of(process.pid, releases)[0] == {"b-2"}


def test_release_by_program_and_maps(start: Start, releases: Path) -> None:
    program = releases / "b" / "sleep"
    shutil.copy(os.path.realpath(shutil.which("sleep") or "/bin/sleep"), program)
    process = start(str(program), "60")
    assert host.release_of(process.pid, releases)[0] == {"b"}
    data = releases / "a" / "data"
    data.write_bytes(b"x" * 4096)
    code = "import mmap,time; m=mmap.mmap(0,4096,prot=1); print(flush=True); time.sleep(60)"
    with data.open("rb") as file:
        mapped = subprocess.Popen([sys.executable, "-c", code], stdin=file, stdout=subprocess.PIPE, cwd="/")
    try:
        assert mapped.stdout.readline() == b"\n"  # it is mapped
        assert host.release_of(mapped.pid, releases)[0] == {"a"}
    finally:
        mapped.kill()
        mapped.communicate()


def test_release_by_environment(start: Start, releases: Path) -> None:
    process = start("sleep", "60", BB_RELEASE="b", OTHER=f"{releases}/a")
    assert host.release_of(process.pid, releases)[0] == {"b"}
    other = start("sleep", "60", BB_RELEASE="of-another-site")
    assert host.release_of(other.pid, releases)[0] == {"of-another-site"}
    assert host.releases_in_use(releases)[0] == {"b": [process.pid]}


def test_an_open_file_keeps_a_release_in_use_and_proves_nothing_of_what_runs(start: Start, releases: Path) -> None:
    (releases / "a" / "file").write_text("x")
    opens = "import time; time.sleep(60)"
    with (releases / "a" / "file").open("rb") as file:
        holder = subprocess.Popen([sys.executable, "-c", opens], cwd="/", env={}, stdin=file)
        try:
            used = host.releases_in_use(releases)[0]
            assert {"a": {holder.pid, os.getpid()}} == {name: set(pids) for name, pids in used.items()}
            assert (set(), False) == host.release_of(holder.pid, releases)
        finally:
            holder.kill()
            holder.wait()
    assert {} == host.releases_in_use(releases)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root may change the root folder of a process")
def test_the_root_of_a_process_keeps_a_release_in_use(releases: Path) -> None:
    changes = "import os, sys, time; os.chroot(sys.stdin.readline()); print(flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", changes], cwd="/", env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        process.stdin.write(str(releases / "b"))
        process.stdin.close()
        assert "\n" == process.stdout.readline()
        assert {"b": [process.pid]} == host.releases_in_use(releases)[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_release_of_another_app_may_have_the_same_name(start: Start, releases: Path) -> None:
    ours = start("sleep", "60", BB_RELEASE="b", BB_ROOT=str(releases.parent))
    start("sleep", "60", BB_RELEASE="a", BB_ROOT="/srv/another")
    assert host.releases_in_use(releases)[0] == {"b": [ours.pid]}


def test_release_through_a_link(start: Start, releases: Path) -> None:
    link = releases.parent / "link"
    link.symlink_to(releases.parent)
    process = start("sleep", "60", cwd=releases / "a")
    assert host.release_of(process.pid, link / "releases")[0] == {"a"}


def test_nothing_in_use(releases: Path) -> None:
    assert host.releases_in_use(releases)[0] == {}
    assert host.releases_in_use(releases / "nowhere")[0] == {}


def test_ended_process(start: Start, releases: Path) -> None:
    ended = start("/bin/true", cwd=releases / "a")
    assert host.release_of(ended.pid, releases) == (set(), False)
    ended.wait()
    assert host.release_of(ended.pid, releases) == (set(), False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every process")
def test_processes_of_others_are_told(releases: Path) -> None:
    assert host.releases_in_use(releases)[1]


def test_sync_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")  # must not be waited for
    host.sync_tree(tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    host.sync_tree(tmp_path)
    with pytest.raises(FileNotFoundError):
        host.sync_tree(tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("kernel", "flushes"), [("5.7.19-generic", 2), ("4.18.0-553.el8", 2), ("5.8.0", 0), ("6.1.0-9", 0)]
)
def test_a_kernel_that_does_not_tell_of_failed_writes_syncs_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str, flushes: int
) -> None:
    (tmp_path / "file").write_text("x")
    seen: list[int] = []
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", kernel, "#1", "x86_64")))
    monkeypatch.setattr(os, "fsync", seen.append)
    host.sync_tree(tmp_path)
    assert flushes == len(seen)
