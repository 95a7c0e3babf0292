"""A real Django site, small enough to be deployed in a second, whose state can be kept and brought back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oracle import put_others
from power_oracle import entries

from example_site import Site, unprivileged

HERE = Path(__file__).resolve().parent
SERVE = HERE / "serve.py"
FAILPOINTS = HERE / "failpoints"
KILLED = -signal.SIGKILL


class TinySite(Site):
    """The project in tiny/; `bare` as long as no service is wanted, else serve.py is its only unit."""

    project = HERE / "tiny"

    def __init__(self, folder: Path, *, cache: Path) -> None:
        super().__init__(folder, cache=cache)
        self.bare = True
        self.columns = 0
        self.kept_inodes: dict[Path, set[tuple[str, int]]] = {}
        shutil.copy(SERVE, folder / "serve.py")  # a checkout may lie in a private folder
        shutil.copytree(FAILPOINTS, folder / "failpoints", ignore=shutil.ignore_patterns("__pycache__"))
        put_others(self.root)
        self.own()
        self.write_config()

    @property
    def database(self) -> Path:
        return self.root / "shared" / "db.sqlite3"

    def write_config(self, **settings: str) -> None:
        super().write_config(**settings)
        if self.bare:
            return
        text = self.config.read_text().partition("\n[health]")[0]
        serve = [f"{self.root}/current/venv/bin/python", f"{self.folder}/serve.py"]
        words = {
            verb: str([*serve, verb, str(self.folder), str(self.port)]).replace("'", '"')
            for verb in ("restart", "status")
        }
        text += (
            f'\n[health]\nurl = "http://127.0.0.1:{self.port}/health/"\nrelease = "header:X-Release"\n'
            'body = "well"\ntimeout_seconds = 4\ninterval_seconds = 0.05\n'
            f'\n[[units]]\nname = "served"\nkind = "command"\nsettle_seconds = 0.05\n'
            f"restart = {words['restart']}\nstatus = {words['status']}\n"
        )
        self.config.write_text(text + self.settings.get("[run]", ""))

    def with_service(self) -> None:
        """From now on the site is served, and asked for its health."""
        self.bare = False
        self.write_config()

    def stop(self) -> None:
        """End the service, and whatever else was started for this site."""
        super().stop()
        words = ["python3", str(self.folder / "serve.py"), "stop", str(self.folder), "0"]
        subprocess.run(words, check=True, **unprivileged())

    def add_column(self, body: str = "") -> str:
        """A revision with one more migration and the code that needs it; `body` runs inside the migration."""
        self.columns += 1
        number = self.columns + 1
        before = "0001_initial" if number == 2 else f"{number - 1:04}_c{number - 1}"
        more = ", migrations.RunPython(go)" if body else ""
        (self.repository / f"notes/migrations/{number:04}_c{number}.py").write_text(
            '"""One more column."""\n\nfrom django.db import migrations, models\n\n\n'
            + (f"def go(apps, editor):\n    {body}\n\n\n" if body else "")
            + "class Migration(migrations.Migration):\n"
            f'    dependencies = [("notes", "{before}")]\n'
            f'    operations = [migrations.AddField("note", "c{number}", models.TextField(null=True)){more}]\n'
        )
        with (self.repository / "notes/models.py").open("a") as models:
            models.write(f"    c{number} = models.TextField(null=True)\n")
        return self.commit(f"column c{number}")

    def restart_service(self) -> None:
        """As if somebody had restarted the unit by hand."""
        if not self.bare:
            words = [f"{self.root}/current/venv/bin/python", f"{self.folder}/serve.py", "restart"]
            subprocess.run([*words, str(self.folder), str(self.port)], check=True, **unprivileged())

    def killed(self, done: subprocess.CompletedProcess[str]) -> bool:
        """Was the agent killed? Anything but that and a usual end is an error of the test."""
        assert done.returncode in (KILLED, 0, 1, 4, 20, 21), done.stdout + done.stderr
        return done.returncode == KILLED

    def start(self, *words: str, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
        """Start the agent; its output can be read from both pipes."""
        return subprocess.Popen(
            [*prefix, *self.command(*words)], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={**self.environment(), **environment}, **unprivileged(),
        )  # fmt: skip

    def failpoints(self, **variables: object) -> dict[str, str]:
        """The environment in which failpoints/sitecustomize.py is loaded into the agent, and what it is told."""
        told = {f"BB_RELEASE_{name.upper()}": str(value) for name, value in variables.items()}
        return {"PYTHONPATH": str(self.folder / "failpoints"), "PYTHONDONTWRITEBYTECODE": "1", **told}

    def keep(self, name: str = "kept") -> None:
        """Remember the root as it is now."""
        saved = self.folder / name
        self.kept_inodes.clear()
        if saved.exists():
            shutil.rmtree(saved)
        subprocess.run(["cp", "-a", "--link", f"{self.root}/.", saved], check=True)
        self._unlink_what_is_written_in_place(self.root)

    def bring_back(self, name: str = "kept") -> None:
        """Make the root what it was: releases are links to the kept files, whatever is written in place a copy."""
        saved = self.folder / name
        linked = ("releases", "sets")
        for entry in os.scandir(self.root):
            if entry.name not in linked:
                remove(Path(entry.path))
        for path in saved.iterdir():
            if path.name not in linked:
                subprocess.run(["cp", "-a", path, self.root], check=True)
        for name in linked:
            self._bring_back_links(saved / name, self.root / name)

    def _bring_back_links(self, kept: Path, here: Path) -> None:
        if not kept.exists():
            if here.exists():
                remove(here)
            return
        if not here.exists():
            here.mkdir()
            shutil.copymode(kept, here)
            self.own(here)
        for path in here.iterdir():
            if not (kept / path.name).exists() or not self._is_same(kept / path.name, path):
                remove(path)
        for path in kept.iterdir():
            if not (here / path.name).exists():
                subprocess.run(["cp", "-a", "--link", path, here], check=True)
                self._make_spare(here / path.name)
            for manifest in here.joinpath(path.name).glob(".release.json.*"):
                manifest.unlink()
            source, manifest = path / "release.json", here / path.name / "release.json"
            if source.exists() and (not manifest.exists() or manifest.read_bytes() != source.read_bytes()):
                manifest.unlink(missing_ok=True)
                os.link(source, manifest)

    def _make_spare(self, folder: Path) -> None:
        """The links made in advance, in a set that had them: they are known by their folders, which a copy has not."""
        if (folder / "spare").exists():
            words = "import pathlib, sys; from bb_release.tools import package_set as p; p.make_spare(pathlib.Path(sys.argv[1]))"
            subprocess.run([sys.executable, "-c", words, folder], cwd="/", check=True, **unprivileged())

    def _is_same(self, kept: Path, found: Path) -> bool:
        """Are all files but the manifest the very ones that were kept, links to them? (A change makes a new file.)"""
        if kept not in self.kept_inodes:
            self.kept_inodes[kept] = inodes(kept)
        return self.kept_inodes[kept] == inodes(found)

    def _unlink_what_is_written_in_place(self, root: Path) -> None:
        """The database, journal, lock and logs are written to: the kept copy must not share them."""
        for folder in ("shared", "state", "logs"):
            for path in (root / folder).rglob("*"):
                if path.is_file():
                    copy = path.with_name(f"{path.name}.copy")
                    subprocess.run(["cp", "-a", path, copy], check=True)
                    copy.replace(path)


def inodes(folder: Path) -> set[tuple[str, int]]:
    """Everything below a folder but its folders and manifests, by path and inode."""
    return {
        (path, entry.inode())
        for path, entry in entries(str(folder))
        if not entry.is_dir(follow_symlinks=False) and entry.name not in ("release.json", ".release.json.new")
    }


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def in_memory() -> str | None:
    """A folder in memory where there is room: a killed process loses nothing that it wrote, and disks are slow."""
    memory = "/dev/shm"
    try:
        facts = os.statvfs(memory)
    except OSError:
        return None
    usable = not facts.f_flag & (os.ST_NOEXEC | os.ST_RDONLY) and os.access(memory, os.W_OK)
    return memory if usable and facts.f_bavail * facts.f_frsize > 2_000_000_000 else None


@contextmanager
def tiny_site(cache: Path) -> Iterator[TinySite]:
    """A site with nothing deployed yet, in a folder of its own that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bb-tiny-", dir=in_memory()))
    folder.chmod(0o755)
    site = None
    try:
        site = TinySite(folder, cache=cache)
        yield site
    finally:
        if site:
            site.stop()
        shutil.rmtree(folder, ignore_errors=True)
