"""A release is built anew when the host's Python is another one, and no process is started while it is the same."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bb_release.actions.wanted import python_changed
from bb_release.model.app import App
from bb_release.model.manifest import Manifest, State
from bb_release.model.release import Release
from bb_release.tools import environment

NAME = "2026-01-01-00-00-00"


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A name for a Python that the host's administrator may lead elsewhere, as /usr/bin/python3 is one."""
    made = tmp_path / "bin" / "python3"
    made.parent.mkdir()
    made.symlink_to(os.path.realpath(sys.executable))
    return made


@pytest.fixture
def release(tmp_path: Path, link: Path) -> Release:
    folder = tmp_path / NAME
    environment.create(folder / "venv", python=str(link), cache=tmp_path / "cache", seed_pip=False)
    version = environment.python_version(folder / "venv")
    return Release(folder, Manifest(name=NAME, state=State.VERIFIED, python=version))


def other_python(place: Path, version: str, said: Path) -> Path:
    """A program that answers as an interpreter of this version would, and notes that it was asked."""
    place.write_text(f"#!/bin/sh\necho asked >> {said}\necho {version}\n")
    place.chmod(0o755)
    return place


def test_the_very_file_that_made_the_release_is_not_asked(tmp_path: Path, link: Path, release: Release) -> None:
    said = tmp_path / "said"
    app = App("shop", "/r", tmp_path, python=str(link))
    assert not python_changed(app, release)
    here = "{}.{}".format(*sys.version_info[:2])
    config = release.venv / "pyvenv.cfg"
    made = other_python(tmp_path / "python", here, said)
    config.write_text(config.read_text().replace(os.path.realpath(link), str(made)))
    assert not python_changed(App("shop", "/r", tmp_path, python=str(made)), release)
    assert not said.exists()
    other_python(made, "9.9", said)  # the same name, and another file since
    assert python_changed(App("shop", "/r", tmp_path, python=str(made)), release)
    assert said.exists()


def test_a_name_that_leads_to_another_python_is_noticed(tmp_path: Path, link: Path, release: Release) -> None:
    app = App("shop", "/r", tmp_path, python=str(link))
    link.unlink()
    link.symlink_to(other_python(tmp_path / "python9.9", "9.9", tmp_path / "said"))
    assert python_changed(app, release)
    (tmp_path / "said").unlink()
    other_python(tmp_path / "python9.9", "{}.{}".format(*sys.version_info[:2]), tmp_path / "said")
    assert not python_changed(app, release)
    assert (tmp_path / "said").exists()
