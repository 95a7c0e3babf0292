"""Holds the note of a configuration to its promise: it says what the file says, and else it says nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bb_release import checked, config
from bb_release.model.app import App

ALL_KINDS = """
repository = "git@git.example.org:shop/shop.git"
root = "{root}"
cache = "/var/cache/shop"
signers = "/etc/shop/signers"
requirements = ["a.txt", "b.txt"]
health = "http://127.0.0.1/health/"
units = ["shop.service", {{ name = "nginx.service", runs_release = false, stop_seconds = 5 }}]
verify = "commit"
shared_folders = []
[environment]
ZOO = "z"
DEBUG = "0"
[[run]]
at = "after-verify"
command = ["true"]
[timeouts]
migrate = 10
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "root/state").mkdir(parents=True)
    made = tmp_path / "shop.toml"
    made.write_text(ALL_KINDS.format(root=tmp_path / "root"))
    return made


def noted(file: Path) -> Path:
    """The note of what the file says, as a run leaves it."""
    config.remember(config.load(file).root)
    return file.parent / "root/state/configuration.json"


def load_without_checks(file: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pydantic", None)  # ImportError for whoever wants to check
        return config.load(file)


def test_what_is_noted_is_what_was_checked_and_needs_no_checks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = config.load(file)
    assert 0o600 == noted(file).stat().st_mode & 0o777
    second = load_without_checks(file, monkeypatch)
    assert first == second
    assert repr(first) == repr(second)  # of the same types, too
    assert first.shape == second.shape


def test_nothing_is_noted_where_there_is_no_state_folder(file: Path) -> None:
    (file.parent / "root/state").rmdir()
    assert not noted(file).exists()
    assert "shop" == config.load(file).name


@pytest.mark.parametrize(
    "change",
    ["the file", "its name", "the checks", "what is noted", "its sum", "its kind", "not JSON", "too deep", "a link",
     "writable by others", "nothing in it"],
)  # fmt: skip
def test_a_note_of_anything_else_is_not_believed(file: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    note = noted(file)
    load_without_checks(file, monkeypatch)
    facts = json.loads(note.read_text())
    match change:
        case "the file":
            file.write_text("keep = 7\n" + file.read_text())
        case "its name":
            file = file.rename(file.with_name("other.toml"))
        case "the checks":
            monkeypatch.setattr(checked, "__version__", "0.0.1")
        case "what is noted":
            note.write_text(json.dumps({**facts, "says": {**facts["says"], "branch": "other"}}))
        case "its sum":
            note.write_text(json.dumps({**facts, "sum": None}))
        case "its kind":
            note.write_text(json.dumps([facts]))
        case "not JSON":
            note.write_text("{")
        case "too deep":
            note.write_text("[" * 100_000)
        case "a link":
            note.symlink_to(note.rename(note.with_name("elsewhere")))
        case "writable by others":
            note.chmod(0o666)
        case "nothing in it":
            os.truncate(note, 0)
    with pytest.raises(ImportError):
        load_without_checks(file, monkeypatch)
    assert (7 if change == "the file" else 20) == config.load(file).keep
