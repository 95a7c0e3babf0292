"""App roots as images, made once: what each scenario of the power and disk tests starts from."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import power_host as host
import pytest
from oracle import Read, put_others
from power_oracle import Fingerprint, Known, fingerprint
from test_mirror_damage import cut_short, pack

from example_site import Site

LEAN = "asgiref==3.13.0\nDjango==5.2.19\nsqlparse=={sqlparse}\ntyping_extensions==4.16.0\n"
INSIDE = Path(__file__).with_name("power_inside")
ROWS = 3
WORKERS = 2


@dataclass
class Ground:
    """A site without its worker, three good releases of it, and two more revisions: one to deploy, one that is bad."""

    site: Site
    images: Path
    revisions: dict[str, str] = field(default_factory=dict)  # first, second, third, next, bad
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)  # by revision
    migrations: dict[str, set[str]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.site.root

    def image(self, kind: str, base: str) -> Path:
        """The image of a base ("three", "damaged", "empty") on a kind of file system; made when first asked for."""
        path = self.images / f"{base}.{kind}"
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two workers may want it at once
            if not path.exists():
                fresh = path.with_suffix(".fresh")
                host.make_image(fresh, kind)
                with host.mounted(fresh, kind, self.root):
                    host.run(["cp", "-a", f"{self.images / base}/.", str(self.root)])
                fresh.rename(path)
        return path

    def known(self, *may_be_live: str, stay: tuple[str, ...] = (), rows: int = ROWS, read: Read | None = None) -> Known:
        """What the oracle compares with, when one of these revisions (by our names for them) may be live.

        `stay`: those whose releases must still be there.
        """
        names = {"": "", **self.revisions}
        return Known(
            self.site.repository,
            self.fingerprints,
            self.migrations,
            {names[name] for name in may_be_live},
            {names[name] for name in stay},
            rows,
            {} if read is None else read,
        )


def build(folder: Path, images: Path) -> Ground:
    """Deploy three revisions with the real agent, and keep the app root as the base of all images."""
    site = Site(folder)
    site.bare = True
    site.settings.update(cache=f'"{site.root}/cache"', keep="5")
    site.write_config()
    ground = Ground(site, images)
    shutil.copytree(INSIDE, folder / INSIDE.name)  # a checkout may lie in a private folder
    for name in ("broken_brackets/celery.py", "brackets/tasks.py"):
        (site.repository / name).unlink()
    (site.repository / "broken_brackets" / "__init__.py").write_text("")
    (site.repository / "requirements.txt").write_text(LEAN.format(sqlparse="0.5.3"))
    (site.root / "cache").mkdir()
    put_others(site.root)
    site.own()
    for name in ("first", "second", "third"):
        ground.revisions[name] = site.edit("answer", f"200 {name}\n", name)
        site.ok("deploy")
        if name == "first":
            make = f"from brackets.models import Snippet\nfor n in range({ROWS}): Snippet.objects.create(text='(' * n)"
            site.ok("manage", "--", "shell", "-c", make)
        release = site.root / "releases" / site.current()
        ground.fingerprints[ground.revisions[name]] = fingerprint(release)
        ground.migrations[ground.revisions[name]] = set(
            json.loads((release / "release.json").read_text())["migrations"]
        )
    for name in ("second", "third"):
        ground.migrations[ground.revisions[name]] = ground.migrations[ground.revisions["first"]]
    site.second_revision()
    site.edit("requirements.txt", LEAN.format(sqlparse="0.6.1"))
    ground.revisions["next"] = site.edit("answer", "200 next\n", "next")
    site.git("checkout", "-q", "-b", "bad")
    ground.revisions["bad"] = site.edit("answer", "500 bad\n", "bad")
    site.git("checkout", "-q", "main")
    third = ground.migrations[ground.revisions["third"]]
    for name in ("next", "bad"):
        ground.migrations[ground.revisions[name]] = third | {"brackets.0003_snippet_language"}
    grow_old(site)
    keep_bases(ground)
    return ground


def grow_old(site: Site) -> None:
    """Three days pass: what was live within one day is kept by prune where it may not look into all processes."""
    for path in site.root.glob("releases/*/release.json"):
        facts = json.loads(path.read_text())
        for activation in facts["activations"]:
            activation["at"] = (datetime.fromisoformat(activation["at"]) - timedelta(days=3)).isoformat()
        path.write_text(json.dumps(facts))


def keep_bases(ground: Ground) -> None:
    """The root moves to the images' folder; in its place stays an empty folder, the mount point.

    "damaged" is "three" with a mirror whose largest pack was cut short; where no object is left at all, an ordinary fetch
    would mend it in place.
    """
    three, empty = ground.images / "three", ground.images / "empty"
    empty.mkdir()
    for name in ("cache", "shared"):
        host.run(["cp", "-a", str(ground.root / name), str(empty / name)])
    (empty / "shared" / "db.sqlite3").unlink()
    ground.site.own(empty)
    host.run(["cp", "-a", str(ground.root), str(three)])
    damaged = ground.images / "damaged"
    host.run(["cp", "-a", str(three), str(damaged)])
    cut_short(pack(damaged / "mirror.git"))
    shutil.rmtree(ground.root)
    ground.root.mkdir()
    ground.root.chmod(0o755)
    ground.site.own(ground.root)


def standing() -> Ground:
    folder = Path(tempfile.mkdtemp(prefix="bb-"))
    folder.chmod(0o755)
    images = host.quick_folder()
    try:
        return build(folder, images)
    except BaseException:
        remove(folder, images)
        raise


def remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


class Shared:
    """What the processes of one test run have in common, in a folder of theirs: made by the first that wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        with (self.folder / "power.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:  # closing it is not enough: a process that was forked meanwhile has it too
                fcntl.flock(lock, fcntl.LOCK_UN)

    def had_or_made(self, name: str, make: Callable[[], Any]) -> Any:
        """Only under the lock."""
        path = self.folder / f"{name}.pickle"
        if not path.exists():
            path.write_bytes(pickle.dumps(make()))
        return pickle.loads(path.read_bytes())  # our own, of this run

    @contextmanager
    def ground(self) -> Iterator[Ground]:
        """The last of those who have it removes it."""
        users = self.folder / "power-users"
        users.mkdir(exist_ok=True)
        mine = users / str(os.getpid())
        with self.locked():
            made: Ground = self.had_or_made("ground", standing)
            mine.touch()
        try:
            yield made
        finally:
            with self.locked():
                mine.unlink()
                if not any(users.iterdir()):
                    for path in self.folder.glob("*.pickle"):
                        path.unlink()
                    remove(made.images, made.site.folder)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """pytest-xdist gives each of its processes a folder in the run's own."""
    folder = tmp_path_factory.getbasetemp()
    return Shared(folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder)


@pytest.fixture(scope="session")
def ground(shared: Shared) -> Iterator[Ground]:
    """One for the whole run: building it takes three deploys."""
    host.require_mounts("ext4")
    with shared.ground() as made:
        yield made


@pytest.fixture(scope="session")
def workers(ground: Ground) -> Iterator[ProcessPoolExecutor]:
    """Processes with mounts of their own, so that several can use the same mount point at once."""
    with ProcessPoolExecutor(WORKERS, get_context("fork"), host.enter_private_mounts) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)
