"""What is compared with an undisturbed run, itself put to the test: each damage done once by hand must be found."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from oracle import Oracle
from power_oracle import Known, differences, fingerprint, problems

OLD, NEW = "2026-11-23-10-00-00", "2026-11-23-11-00-00"


def make(root: Path) -> Known:
    """An app root with two releases, the newer one live."""
    known = Known(
        root, may_be_live={"b" * 40}, stay={"a" * 40}, rows=2, migrations={"b" * 40: {"brackets.0001_initial"}}
    )
    for name, letter in ((OLD, "a"), (NEW, "b")):
        release = root / "releases" / name
        (release / "app" / "__pycache__").mkdir(parents=True)
        (release / "app" / "code.py").write_text(f"NAME = {name!r}\n")
        (release / "app" / "link").symlink_to("code.py")
        body = importlib.util.MAGIC_NUMBER + b"\0" * 12 + b"N"  # marshal's None
        (release / "app" / "__pycache__" / "code.pyc").write_bytes(body)
        (release / "REVISION").write_text(f"{letter * 40}\n")
        (release / "release.json").write_text(json.dumps({"name": name, "state": "verified", "revision": letter * 40}))
        known.revisions[letter * 40] = fingerprint(release)
    (root / "current").symlink_to(f"releases/{NEW}")
    (root / "shared").mkdir()
    with sqlite3.connect(root / "shared" / "db.sqlite3") as database:
        database.execute("create table django_migrations (app, name)")
        database.execute("insert into django_migrations values ('brackets', '0001_initial')")
        database.execute("create table brackets_snippet (text)")
        database.executemany("insert into brackets_snippet values (?)", [("(",), (")",)])
    database.close()
    return known


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(content)


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
    "another release is live": (lambda root: point(root, f"releases/{OLD}"), "neither the old nor the new"),
    "a file of zero bytes": (write(f"releases/{NEW}/app/code.py", ""), "(0 bytes)"),
    "a file full of zeros": (write(f"releases/{OLD}/app/code.py", "\0" * 30), "app/code.py"),
    "a file that is gone": (lambda root: (root / "releases" / NEW / "app" / "link").unlink(), "app/link is None"),
    "a file too many": (write(f"releases/{NEW}/app/more.py", ""), "app/more.py"),
    "another mode": (lambda root: (root / "releases" / NEW / "app" / "code.py").chmod(0o777), "file 777"),
    "torn bytecode": (lambda root: os.truncate(pyc(root), 16), "cannot be loaded"),
    "a release that is gone": (lambda root: shutil.rmtree(root / "releases" / OLD), "aaa is gone"),
    "a row lost": (lambda root: change(root, "delete from brackets_snippet where text = '('"), "1 rows"),
    "a migration lost": (lambda root: change(root, "delete from django_migrations"), "needs"),
}  # fmt: skip


def test_what_is_whole_has_no_problems(tmp_path: Path) -> None:
    known = make(tmp_path)
    assert [] == differences(Oracle(tmp_path, tmp_path), known)
    shutil.rmtree(pyc(tmp_path).parent)  # it is made again
    assert [] == differences(Oracle(tmp_path, tmp_path), known)


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_found(damage: str, tmp_path: Path) -> None:
    known = make(tmp_path)
    do, words = DAMAGES[damage]
    do(tmp_path)
    assert words in "\n".join(differences(Oracle(tmp_path, tmp_path), known))


def test_the_judge_is_asked_as_well(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "releases" / "stranger").mkdir(parents=True)
    known = Known(tmp_path, may_be_live={""})
    assert [] == problems(tmp_path, known)
    (tmp_path / ".current.new").symlink_to("x")
    assert [] == problems(tmp_path, known)
    left = "\n".join(problems(tmp_path, known, repaired=True))
    assert f"left over: {tmp_path}/.current.new\nstranger is in releases" == left
    (tmp_path / "state" / "hold.json").write_text("{")
    assert ["hold.json cannot be read"] == problems(tmp_path, known)


def test_the_same_file_is_not_read_twice_but_a_changed_one_is(tmp_path: Path) -> None:
    known = make(tmp_path)
    assert [] == differences(Oracle(tmp_path, tmp_path), known)
    assert known.read
    (tmp_path / "releases" / NEW / "app" / "code.py").write_text("NAME = 'something quite different now'\n")
    assert "app/code.py" in "\n".join(differences(Oracle(tmp_path, tmp_path), known))
