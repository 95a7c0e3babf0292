"""scripts/install for real: into a prefix of its own, upgraded, kept when the new version is broken, removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bb_release.actions import units
from bb_release.model.app import App, Unit
from example_site import PROJECT, unprivileged

PARTS = ("agent", "scripts", "systemd", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@dataclass
class Host:
    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def link(self) -> Path:
        return self.folder / "bin/bb-release"

    def install(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {
            **os.environ, "PREFIX": str(self.folder / "opt"), "LINK": str(self.link),
            "UNITS": str(self.folder / "units"), **environment,
        }  # fmt: skip
        return subprocess.run(
            [self.checkout / "scripts/install", *words], env=env, capture_output=True, text=True, timeout=300
        )

    def version(self) -> str:
        """What the installed command says to a user who is not root."""
        done = subprocess.run([self.link, "--version"], capture_output=True, text=True, cwd="/", **unprivileged())
        return done.stdout.strip().rpartition(" ")[2]

    def set_version(self, line: str) -> None:
        path = self.checkout / "agent/bb_release/__init__.py"
        text = "".join(old for old in path.read_text().splitlines(True) if not old.startswith("__version__"))
        path.write_text(f"{text}{line}\n")

    def versions(self) -> list[str]:
        return sorted(os.listdir(self.folder / "opt/versions"))

    def everything(self) -> dict[str, int]:
        """Every entry but Python's caches, with its time of change."""
        found = (path for path in self.folder.rglob("*") if "__pycache__" not in path.parts and path.name != ".lock")
        return {str(path): path.lstat().st_mtime_ns for path in found if path.is_file()}


@pytest.fixture
def host() -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="bb-install-"))
    folder.chmod(0o755)
    for part in PARTS:
        if (PROJECT / part).is_dir():
            shutil.copytree(PROJECT / part, folder / "checkout" / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / part, folder / "checkout" / part)
    yield Host(folder)
    shutil.rmtree(folder)


def units_in_place(host: Host, name: str) -> set[str]:
    """The files that `units --install` finds as they should be; for any other that is there, it refuses."""
    place, root = host.folder / "units", host.folder / name
    root.mkdir(exist_ok=True)
    app = App(name, "git@git.example.org:a/b.git", root, units=(Unit(f"{name}.service"),), application="a.wsgi:app")
    files = units.render(app, units.people(app, "", place), nginx=False, folder=place)
    there = [file for file in files if file.path.exists()]
    assert [] == [file.path.name for file in there if file.path.read_text() != file.content]
    return {file.path.name for file in there}


def test_it_is_installed_upgraded_kept_when_the_new_one_is_broken_and_removed(host: Host) -> None:
    host.set_version('__version__ = "1.0.0"')
    first = host.install()
    assert first.returncode == 0, first.stderr
    assert "1.0.0" == host.version()
    assert (host.folder / "opt/current").resolve() == host.link.resolve().parents[1]
    units = {"bb-release@.service", "bb-release@.timer", "bb-release-recover@.service"}
    assert units == set(os.listdir(host.folder / "units"))
    assert f"ExecStart={host.link} -a %i" in (host.folder / "units/bb-release@.service").read_text()
    for name in ("shop", "blog"):
        assert units_in_place(host, name) == set(os.listdir(host.folder / "units"))
    before = host.everything()

    again = host.install()
    assert again.returncode == 0, again.stderr
    assert before == host.everything()

    host.set_version('__version__ = "1.1.0"')
    upgraded = host.install()
    assert upgraded.returncode == 0, upgraded.stderr
    assert "1.1.0" == host.version()
    assert 3 == len(host.versions())  # the lock, the new one, and the one before
    way_back = upgraded.stdout.partition("the way back: ")[2].partition(")")[0]

    good = host.versions()
    host.set_version('__version__ = "1.2.0"\nraise SystemExit("broken")')
    broken = host.install()
    assert broken.returncode != 0
    assert "the new version does not start; nothing was changed" in broken.stderr
    assert ("1.1.0", good) == (host.version(), host.versions())

    subprocess.run(way_back.split(), check=True)
    assert "1.0.0" == host.version()

    kept = host.folder / "units/bb-release@shop.service.d/more.conf"
    kept.parent.mkdir()
    for name in ("owner.conf", "more.conf"):
        kept.with_name(name).write_text("[Service]\n")
    before = host.everything()
    with subprocess.Popen([host.folder / "opt/current/bin/python", "-c", "input()"], stdin=subprocess.PIPE) as run:
        refused = host.install("--remove")
        run.communicate(b"\n")
    assert (1, before) == (refused.returncode, host.everything())
    assert f"bb-release runs (process {run.pid}): remove it when that has ended" in refused.stderr

    removed = host.install("--remove")
    assert removed.returncode == 0, removed.stderr
    assert [kept] == [path for path in (host.folder / "units").rglob("*") if path.is_file()]
    shutil.rmtree(host.folder / "units")
    assert ["checkout"] == [entry for entry in sorted(os.listdir(host.folder)) if any((host.folder / entry).iterdir())]


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        ((), {"PYTHON": "/bin/false"}, "needs Python 3.11 or newer"),
        ((), {"LINK": "bin/bb-release"}, "not an absolute path"),
        ((), {"PREFIX": "/tmp/../etc"}, "not an absolute path"),
        ((), {"PREFIX": "/proc/bb-release"}, "cannot write to /proc/bb-release: run it as root"),
        (("--prefix=x",), {}, "scripts/install [--remove]"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_made(
    host: Host, words: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    done = host.install(*words, **environment)
    assert done.returncode != 0
    assert said in done.stderr
    assert not host.link.exists()
    assert not any((host.folder / "opt").glob("versions/[!.]*"))


def test_a_file_in_the_place_of_the_link_is_never_overwritten(host: Host) -> None:
    host.link.parent.mkdir()
    host.link.write_text("somebody's own")
    done = host.install()
    assert done.returncode != 0
    assert "is no link: move it away" in done.stderr
    assert "somebody's own" == host.link.read_text()
