"""The oracle of the power and disk tests, itself put to the test: each damage done once by hand must be found."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from power_oracle import Known, fingerprint, problems

OLD, NEW = "2026-11-23-10-00-00", "2026-11-23-11-00-00"


def make(root: Path) -> Known:
    """An app root with two releases, the newer one live."""
    known = Known(may_be_live={"b" * 40}, stay={"a" * 40}, rows=2, migrations={"b" * 40: {"brackets.0001_initial"}})
    for name, letter in ((OLD, "a"), (NEW, "b")):
        release = root / "releases" / name
        (release / "app" / "__pycache__").mkdir(parents=True)
        (release / "app" / "code.py").write_text(f"NAME = {name!r}\n")
        (release / "app" / "link").symlink_to("code.py")
        body = importlib.util.MAGIC_NUMBER + b"\0" * 12 + b"N"  # marshal's None
        (release / "app" / "__pycache__" / "code.pyc").write_bytes(body)
        (release / "REVISION").write_text(f"{letter * 40}\n")
        (release / "release.json").write_text(json.dumps({"state": "verified", "revision": letter * 40}))
        known.revisions[letter * 40] = fingerprint(release)
    (root / "current").symlink_to(f"releases/{NEW}")
    info = root / "sets/0/venv/lib/python3.11/site-packages/one-1.dist-info"
    info.mkdir(parents=True)
    (info.parent / "one.py").write_text("1\n")
    (info / "RECORD").write_text(
        "one.py,sha256=Q1WkaxnTSNwvV8BG-O9j1FOOu5NgAPPJ7pVKJ0YN2GU,2\none-1.dist-info/RECORD,,\n"
    )
    for folder in ("state", "shared"):
        (root / folder).mkdir()
    with sqlite3.connect(root / "shared" / "db.sqlite3") as database:
        database.execute("create table django_migrations (app, name)")
        database.execute("insert into django_migrations values ('brackets', '0001_initial')")
        database.execute("create table brackets_snippet (text)")
        database.executemany("insert into brackets_snippet values (?)", [("(",), (")",)])
    database.close()
    return known


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(content)


def say(state: str) -> Callable[[Path], object]:
    return write(f"releases/{NEW}/release.json", json.dumps({"state": state, "revision": "b" * 40}))


def change(root: Path, statement: str) -> None:
    with sqlite3.connect(root / "shared" / "db.sqlite3") as database:
        database.execute(statement)
    database.close()


def point(root: Path, target: str) -> None:
    (root / "current").unlink()
    (root / "current").symlink_to(target)


def pyc(root: Path) -> Path:
    return root / "releases" / NEW / "app" / "__pycache__" / "code.pyc"


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no current": (lambda root: (root / "current").unlink(), "current is not there"),
    "current leads out": (lambda root: point(root, "/etc"), "current leads to '/etc'"),
    "current leads to nothing": (lambda root: point(root, "releases/2026-11-23-12-00-00"), "current leads to"),
    "another release is live": (lambda root: point(root, f"releases/{OLD}"), "neither the old nor the new"),
    "a file of zero bytes": (write(f"releases/{NEW}/app/code.py", ""), "(0 bytes)"),
    "a file full of zeros": (write(f"releases/{OLD}/app/code.py", "\0" * 30), "app/code.py"),
    "a file that is gone": (lambda root: (root / "releases" / NEW / "app" / "link").unlink(), "app/link is None"),
    "a file too many": (write(f"releases/{NEW}/app/more.py", ""), "app/more.py"),
    "another mode": (lambda root: (root / "releases" / NEW / "app" / "code.py").chmod(0o777), "file 777"),
    "torn bytecode": (lambda root: os.truncate(pyc(root), 16), "cannot be loaded"),
    "a manifest of zero bytes": (write(f"releases/{NEW}/release.json", ""), "cannot be read"),
    "no manifest": (lambda root: (root / "releases" / OLD / "release.json").unlink(), "has no manifest"),
    "a release that is gone": (lambda root: shutil.rmtree(root / "releases" / OLD), "aaa is gone"),
    "live is being built": (say("building"), "which is building"),
    "live failed": (say("failed"), "which is failed"),
    "an unknown state": (say("odd"), "'odd'"),
    "a row lost": (lambda root: change(root, "delete from brackets_snippet where text = '('"), "1 rows"),
    "a migration lost": (lambda root: change(root, "delete from django_migrations"), "needs"),
    "no database": (lambda root: (root / "shared" / "db.sqlite3").unlink(), "database is not there"),
    "a file of a package set full of zeros": (
        lambda root: next(root.glob("sets/0/venv/lib/*/*/one.py")).write_bytes(b"\0\0"), "one.py is not what"),
    "a file of a package set that is gone": (
        lambda root: next(root.glob("sets/0/venv/lib/*/*/one.py")).unlink(), "one.py is not what"),
    "a state file cut short": (write("state/hold.json", "{"), "hold.json cannot be read"),
}  # fmt: skip
LEFTOVERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a removal half done": (lambda root: (root / "releases" / f".removing-{OLD}").mkdir(), ".removing-"),
    "a link under its staging name": (lambda root: (root / ".current.new").symlink_to("x"), ".current.new"),
    "a state file under its staging name": (write("state/.hold.json.new", ""), ".hold.json.new"),
    "a manifest under its staging name": (write(f"releases/{NEW}/.release.json.new", ""), "half written"),
    "a package set half made": (lambda root: (root / "sets/.0.new").mkdir(), "sets/.0.new"),
    "a package set half removed": (lambda root: (root / "sets/.0.removing").mkdir(), "sets/.0.removing"),
    "a switch not ended": (say("activating"), "still activating"),
    "a way back not ended": (say("returning"), "still returning"),
}  # fmt: skip


def test_what_is_whole_has_no_problems(tmp_path: Path) -> None:
    known = make(tmp_path)
    assert [] == problems(tmp_path, known, repaired=True)
    shutil.rmtree(pyc(tmp_path).parent)  # it is made again
    assert [] == problems(tmp_path, known, repaired=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_found(damage: str, tmp_path: Path) -> None:
    known = make(tmp_path)
    do, words = DAMAGES[damage]
    do(tmp_path)
    assert words in "\n".join(problems(tmp_path, known))


@pytest.mark.parametrize("left", LEFTOVERS)
def test_what_is_left_over_is_allowed_before_a_repair_only(left: str, tmp_path: Path) -> None:
    known = make(tmp_path)
    do, words = LEFTOVERS[left]
    do(tmp_path)
    assert [] == problems(tmp_path, known)
    assert words in "\n".join(problems(tmp_path, known, repaired=True))


def test_the_same_file_is_not_read_twice_but_a_changed_one_is(tmp_path: Path) -> None:
    known = make(tmp_path)
    assert [] == problems(tmp_path, known)
    assert known.read
    (tmp_path / "releases" / NEW / "app" / "code.py").write_text("NAME = 'something quite different now'\n")
    assert "app/code.py" in "\n".join(problems(tmp_path, known))
