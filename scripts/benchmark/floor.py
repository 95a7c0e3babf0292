"""The floor: what the raw steps of a code-only deploy cost on this host, in the same rounds as the contestants."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.contestants import PYTHON, Contestant, Ground

# What a deploy has to do. Static files are counted once as collected whole, once as hard links of what did not change.
NEEDED = (
    "fetch", "tree", "environment", "packages, hard links", "Django start", "check", "migrate, nothing to do",
    "link and fsync", "syncfs",
)  # fmt: skip
COLLECTED, LINKED = "collectstatic", "static files, hard links"
ASKED = ("git ls-remote", "python start")  # what "is there anything new?" has to do


@dataclass
class Floor:
    """Not a tool: no lock, no checks, no log, nothing to go back to."""

    place: Contestant
    uv: Path
    rounds: list[dict[str, float]] = field(default_factory=list)

    def prepare(self) -> None:
        """The mirror, and the packages installed once with their byte code. Raises CalledProcessError."""
        root, ground = self.place.root, self.place.ground
        self.place.prepare()
        self._run("git", "clone", "-q", "--mirror", ground.repository, root / "mirror.git")
        self.renew()
        self.release()
        self.rounds.clear()  # the first one migrates a new database

    def renew(self) -> None:
        """Install the packages of the requirements as they are now."""
        root, ground = self.place.root, self.place.ground
        self._run("rm", "-rf", root / "set")
        self._run(self.uv, "venv", "-q", "--python", PYTHON, root / "set")
        self._run(
            self.uv, "pip", "install", "-q", "--compile-bytecode", "--default-index", ground.index_url,
            "--python", root / "set/bin/python", "-r", ground.repository / "requirements.txt",
        )  # fmt: skip

    def release(self) -> None:
        """Make one release by raw steps, and keep what each took.

        None is removed while others are measured: for minutes after it, an ext4 without a journal walks past every
        deleted inode when it makes a new file (recently_deleted() in fs/ext4/ialloc.c; 3 s became 13 s).
        """
        ground = self.place.ground
        os.sync()  # as before each contestant
        said = self._run(
            PYTHON, ground.recipes / "floor.py", self.place.root, ground.repository, self.uv, PYTHON
        )  # fmt: skip
        self.rounds.append(json.loads(said.splitlines()[-1]))

    def steps(self) -> Iterator[tuple[str, list[float]]]:
        for name in self.rounds[0] if self.rounds else ():
            yield name, [made[name] for made in self.rounds]

    def sums(self, *names: str) -> list[float]:
        """The sum of some steps, for each round."""
        return [sum(made[name] for name in names) for made in self.rounds]

    def _run(self, *words: object) -> str:
        place = self.place
        env = {**place.environment(), "UV_CACHE_DIR": str(place.root / "home" / "uv")}
        with place.log.open("ab") as log:
            done = subprocess.run(
                [str(word) for word in words], env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=log, check=True, text=True, **place.ground.unprivileged,
            )  # fmt: skip
        return done.stdout


def floor(ground: Ground, uv: Path) -> Floor:
    place = Contestant("floor", ground, ground.folder / "floor", {}, "", tree="current/app")
    return Floor(place, uv)
