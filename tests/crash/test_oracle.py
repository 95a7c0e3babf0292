"""The judge itself is tried: each thing is damaged once, and it says so."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from oracle import Oracle, stop_tree, users
from tiny_site import TinySite

import results
from example_site import unprivileged
from required import require

BESIDE = "beside-*/releases/*/file"
Damage = Callable[[TinySite, Path], object]


@pytest.fixture
def judged(live_tiny: TinySite) -> Iterator[TinySite]:
    beside = next(live_tiny.folder.glob(BESIDE))
    content = beside.read_bytes()
    yield live_tiny
    beside.write_bytes(content)
    live_tiny.bring_back()


def oracle_of(site: TinySite) -> Oracle:
    return Oracle(site.root, site.repository, site.database)


def execute(site: TinySite, statement: str) -> None:
    with sqlite3.connect(site.database) as connection:
        connection.execute(statement)
    connection.close()


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    refill(path, text.replace(old, new).encode())


def previous_of(site: TinySite) -> Path:
    return site.root / "releases" / Oracle(site.root, site.repository).previous(site.current())


def link_to(site: TinySite, target: str) -> None:
    (site.root / "current").unlink()
    (site.root / "current").symlink_to(target)


def package_file(release: Path) -> Path:
    return next(release.glob("venv/lib/python*/site-packages/django/apps/registry.py"))


def half_written(release: Path) -> None:
    path = package_file(release)
    refill(path, path.read_bytes()[:100])


def record(release: Path) -> Path:
    return next(release.glob("venv/lib/python*/site-packages/asgiref-*.dist-info/RECORD"))


def refill(path: Path, content: bytes) -> None:
    """A new file, since the kept copy of a release is the same inode."""
    path.unlink()
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "current is gone": (lambda s, r: (s.root / "current").unlink(), "current is gone"),
    "current dangles": (lambda s, r: link_to(s, "releases/2001-01-01-00-00-00"), "is no release"),
    "current leads elsewhere": (lambda s, r: link_to(s, f"{s.root}/releases/{r.name}"), "is no release"),
    "current is a folder": (lambda s, r: ((s.root / "current").unlink(), (s.root / "current").mkdir()), "no release"),
    "current is half built": (lambda s, r: rewrite(r / "release.json", '"verified"', '"building"'), "which is building"),
    "a manifest is torn": (lambda s, r: rewrite(r / "release.json", "{", ""), "cannot be read"),
    "a manifest is another's": (lambda s, r: rewrite(r / "release.json", r.name, "2001-01-01-00-00-00"), "cannot be"),
    "REVISION is wrong": (lambda s, r: rewrite(r / "REVISION", "\n", "0\n"), "REVISION is not"),
    "release.env is gone": (lambda s, r: (r / "release.env").unlink(), "release.env"),
    "a file of the tree is gone": (lambda s, r: (r / "app/health.txt").unlink(), "app/health.txt is not"),
    "a file of the tree is changed": (lambda s, r: rewrite(r / "app/health.txt", "w", "W"), "app/health.txt is not"),
    "a package's file is gone": (lambda s, r: package_file(r).unlink(), "apps/registry.py is not what its package"),
    "a package's file is half": (lambda s, r: half_written(r), "apps/registry.py is not what its package"),
    "a package's file is another": (lambda s, r: rewrite(package_file(r), "self", "sElf"), "apps/registry.py is not what"),
    "the packages are gone": (lambda s, r: shutil.rmtree(r / "venv"), "no package is installed"),
    "Python does not start": (lambda s, r: (r / "venv/bin/python").unlink(), "cannot import django"),
    "a static file is gone": (
        lambda s, r: [p.unlink() for p in r.glob("app/staticfiles/notes/site*")], "static/notes/site"),
    "the static list is gone": (lambda s, r: (r / "app/staticfiles/staticfiles.json").unlink(), "staticfiles.json"),
    "the previous release is gone": (lambda s, r: shutil.rmtree(previous_of(s)), "which was live before"),
    "the previous release is half gone": (
        lambda s, r: [shutil.rmtree(previous_of(s) / "venv"), shutil.rmtree(previous_of(s) / "app")], "is not what"),
    "the database is garbage": (lambda s, r: s.database.write_bytes(b"SQLite format 3\0" + b"x" * 9000), "database"),
    "the database is gone": (lambda s, r: s.database.unlink(), "there is no database"),
    "a migration is not applied": (
        lambda s, r: execute(s, "DELETE FROM django_migrations WHERE name = '0003_c3'"), "which the live release needs"),
    "a migration lacks the one before": (
        lambda s, r: execute(s, "DELETE FROM django_migrations WHERE name = '0002_c2'"), "without [('notes', '0002_c2')]"),
    "a column has no migration": (lambda s, r: execute(s, "ALTER TABLE notes_note ADD c9 TEXT"), "the table has"),
    "a file of a package set is gone": (
        lambda s, r: next(s.root.glob("sets/*/venv/lib/python*/site-packages/django/__init__.py")).unlink(),
        "django/__init__.py is not what its package recorded"),
    "a script of a package set is gone": (
        lambda s, r: next(s.root.glob("sets/*/venv/bin/django-admin")).unlink(), "bin/django-admin is not what its package"),
    "a package's record is empty": (lambda s, r: refill(record(r), b""), "RECORD does not name itself"),
    "a package's record is zeros": (lambda s, r: refill(record(r), b"\0" * 40), "RECORD: "),
    "a manifest is gone": (lambda s, r: (previous_of(s) / "release.json").unlink(), "cannot be read"),
    "a state that there is not": (
        lambda s, r: rewrite(previous_of(s) / "release.json", '"verified"', '"odd"'), "is 'odd', which is no state"),
    "an upload is gone": (lambda s, r: (s.root / "shared/media/file").unlink(), "shared/media/file, which is not"),
    "a file beside the root is changed": (
        lambda s, r: next(s.folder.glob(BESIDE)).write_bytes(b""), "releases/2001-01-01-00-00-00/file, which is not"),
    "a state file is torn": (lambda s, r: (s.root / "state/hold.json").write_text("{"), "hold.json cannot be read"),
}  # fmt: skip
# what a run under way may have, and a recovery may not leave
UNFINISHED: dict[str, tuple[Damage, str]] = {
    "a removal": (lambda s, r: (s.root / "releases/.removing-x").mkdir(), "left over"),
    "a package set": (lambda s, r: (s.root / "sets/.0.new").mkdir(), "left over"),
    "a package set's removal": (lambda s, r: (s.root / "sets/.0.removing").mkdir(), "left over"),
    "a staged link": (lambda s, r: (s.root / ".current.new").symlink_to("x"), "left over"),
    "a staged manifest": (lambda s, r: (r / ".release.json.new").touch(), "left over"),
    "a staged slot": (lambda s, r: ((s.root / "slots").mkdir(), (s.root / "slots/.blue.new").symlink_to("x")), "left over"),
    "a staged state file": (lambda s, r: (s.root / "state/.hold.json.new").touch(), "left over"),
    "a switch": (
        lambda s, r: rewrite(r / "release.json", '"verified"', '"activating"'), "is activating after the recovery"),
    "a way back": (
        lambda s, r: rewrite(r / "release.json", '"verified"', '"returning"'), "is returning after the recovery"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@results.one_of("the judge: damages done by hand", of=len(DAMAGES))
def test_each_damage_is_seen(judged: TinySite, damage: str) -> None:
    do, words = DAMAGES[damage]
    oracle = oracle_of(judged)
    assert [] == oracle.problems(recovered=True)
    do(judged, judged.root / "releases" / judged.current())
    found = oracle.problems(recovered=True)

    assert [p for p in found if words in p], found


@pytest.mark.parametrize("thing", UNFINISHED)
@results.one_of("the judge: things left unfinished by hand", of=len(UNFINISHED))
def test_what_is_unfinished_may_be_there_until_the_recovery(judged: TinySite, thing: str) -> None:
    do, words = UNFINISHED[thing]
    do(judged, judged.root / "releases" / judged.current())
    oracle = oracle_of(judged)
    assert [] == oracle.problems(recovered=False)
    found = oracle.problems(recovered=True)

    assert [p for p in found if words in p], found


def test_a_process_that_is_left_and_a_held_lock_are_seen(judged: TinySite) -> None:
    lock = judged.root / "state" / "lock"
    with subprocess.Popen(["flock", "--no-fork", lock, "sleep", "60"], **unprivileged()) as process:
        try:
            while True:
                found = oracle_of(judged).problems(recovered=True)
                if any("the lock is held" in p for p in found):
                    break
        finally:
            process.kill()

    assert [p for p in found if "a process is left" in p and "sleep 60" in p], found


def test_a_process_that_has_another_folder_under_that_name_is_not_of_the_root(tmp_path: Path) -> None:
    words = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    can = subprocess.run([*words, "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True).returncode == 0
    require("CRASH_TESTS", can, "unshare cannot mount here")
    there = 'cd "$0" && echo && exec sleep 60'
    in_another = [*words, "sh", "-c", f'mount -t tmpfs none "$0" && {there}', tmp_path]
    with started(in_another) as other, started(["sh", "-c", there, tmp_path]) as usual:
        found = users(tmp_path)

    assert (False, True) == (other in found, usual in found)


def test_a_tree_is_stopped_with_what_another_thread_started() -> None:
    code = """
        import subprocess, threading
        thread = threading.Thread(target=lambda: (subprocess.Popen(["sleep", "60"]), print(flush=True), idle.wait()))
        idle = threading.Event()
        thread.start()
    """
    with started([sys.executable, "-c", textwrap.dedent(code)]) as pid:
        stopped = stop_tree(pid)
        states = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[0] for one in stopped]
        os.kill(stopped[-1], signal.SIGKILL)

    assert ["T", "T"] == states


@contextmanager
def started(words: list[str | Path]) -> Iterator[int]:
    """A process that has said that it is there; it is killed at the end."""
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout and process.stdout.readline()
            yield process.pid
        finally:
            process.kill()
