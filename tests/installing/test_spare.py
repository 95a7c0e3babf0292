"""What is linked for the next release in advance: an ordinary environment comes of it, or it is not used at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_package_sets import CHOICE, HARMS, Place, damage, listed, states
from test_package_sets import place as place  # a fixture

from bb_release.tools import environment, package_set, records, spare

NUMBER = "2026-01-01-00-00-0{}"


@pytest.fixture
def ahead(place: Place) -> Place:
    """A set of what uv installed, with a spare."""
    package_set.make(place.installed(NUMBER.format(1), "uv"), place.set, CHOICE)
    package_set.make_spare(place.set)
    return place


def folder_of(site: Path) -> tuple[int, int]:
    """Which folder it is: the number of one that is gone may be given to the next."""
    facts = (site / "two").stat()
    return facts.st_ino, facts.st_ctime_ns


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_what_was_linked_in_advance_is_what_the_installer_would_have_made(place: Place, installer: str) -> None:
    first = place.installed(NUMBER.format(1), installer)
    package_set.make(first, place.set, CHOICE)
    kept = states(place.set)
    package_set.make_spare(place.set)
    moved = folder_of(place.set / spare.NAME / "0")
    linked = place.linked(NUMBER.format(2))
    assert moved == folder_of(environment.sites(linked)[0])
    assert kept == states(place.set)  # all of the spare is gone, and no RECORD was written to
    assert listed(first, general=False) == listed(linked, general=False)
    assert [] == records.check_installed(linked, hashes=True)
    assert folder_of(environment.sites(place.linked(NUMBER.format(3)))[0]) != moved
    place.give_away()
    assert f"{linked}\n" == place.run(linked / "bin/one-tool").stdout


def harm(place: Place, how: str) -> None:
    folder = place.set / spare.NAME
    module, note = folder / "0/two/module_3.py", folder / spare.NOTE
    facts = json.loads(note.read_text())
    match how:
        case "a file is gone":
            module.unlink()
        case "byte code is gone":
            next(module.parent.glob("__pycache__/module_3.*")).unlink()
        case "a file is another one":
            shutil.copy2(module, place.folder / "other")
            (place.folder / "other").replace(module)
        case "a file is more":
            (module.parent / "more.py").touch()
        case "a folder is gone":
            shutil.rmtree(module.parent)
        case "a folder is another one":
            module.parent.rename(place.folder / "gone")
            shutil.copytree(place.folder / "gone", module.parent)
        case "its note is gone":
            note.unlink()
        case "its note is half":
            note.write_text(note.read_text()[:100])
        case "another boot made it":
            note.write_text(json.dumps({**facts, "boot": "another"}))
        case "its making was killed":
            folder.rename(place.set / spare.NEW)
        case "its taking was killed":
            (folder / "0").rename(place.folder / "gone")


SPARE_HARMS = (
    "a file is gone", "byte code is gone", "a file is another one", "a file is more", "a folder is gone",
    "a folder is another one", "its note is gone", "its note is half", "another boot made it", "its making was killed",
    "its taking was killed",
)  # fmt: skip


@pytest.mark.parametrize("how", SPARE_HARMS)
def test_a_spare_that_is_not_as_it_was_made_is_not_used(ahead: Place, how: str) -> None:
    made = folder_of(ahead.set / spare.NAME / "0")
    harm(ahead, how)
    linked = ahead.linked(NUMBER.format(2))
    assert made != folder_of(environment.sites(linked)[0])
    assert listed(ahead.folder / "releases" / NUMBER.format(1) / "venv") == listed(linked)
    assert {"set.json", "venv"} == {path.name for path in ahead.set.iterdir()}


@pytest.mark.parametrize("how", [how for how in HARMS if how != "byte code is gone"])
def test_a_spare_of_a_set_that_is_not_whole_is_not_used(ahead: Place, how: str) -> None:
    damage(ahead, how)
    venv = ahead.venv(NUMBER.format(2), pip=False)
    with pytest.raises(package_set.UnusableError):
        package_set.put_into(venv, ahead.set)
    assert package_set.is_fresh(venv)


def test_of_a_set_that_lacks_a_file_there_is_no_spare(place: Place) -> None:
    package_set.make(place.installed(NUMBER.format(1), "uv"), place.set, CHOICE)
    damage(place, "byte code is gone")
    with pytest.raises(package_set.UnusableError, match="files are missing"):
        package_set.make_spare(place.set)
    assert {"set.json", "venv"} == {path.name for path in place.set.iterdir()}


def test_for_an_owner_whose_files_share_their_blocks_no_hard_links_are_taken(ahead: Place) -> None:
    made = folder_of(ahead.set / spare.NAME / "0")
    venv = ahead.venv(NUMBER.format(2), pip=False)
    package_set.put_into(venv, ahead.set, share_blocks=True)
    assert made != folder_of(environment.sites(venv)[0])


@pytest.mark.parametrize("act", ["make_spare(Path(sys.argv[2]))", "put_into(Path(sys.argv[1]), Path(sys.argv[2]))"])
def test_a_killed_making_or_taking_leaves_whole_environments(ahead: Place, act: str) -> None:
    code = f"import sys; from pathlib import Path; from bb_release.tools import package_set; package_set.{act}"
    killed = 0
    for number in range(2, 8):
        venv = ahead.venv(NUMBER.format(number), pip=False)
        running = subprocess.Popen([sys.executable, "-c", code, venv, ahead.set])
        before = time.monotonic()
        while running.poll() is None and (ahead.set / spare.NAME).exists() and time.monotonic() < before + 60:
            pass
        time.sleep(0.003 * (number - 2))
        running.kill()
        killed += running.wait() != 0
        assert package_set.is_fresh(venv) or environment.packages(venv) == environment.packages(ahead.set / "venv")
        if package_set.is_fresh(venv):
            package_set.put_into(venv, ahead.set)
        assert listed(ahead.folder / "releases" / NUMBER.format(1) / "venv") == listed(venv)
        package_set.make_spare(ahead.set)
    assert killed, "nothing was killed in the middle: this proves nothing"
