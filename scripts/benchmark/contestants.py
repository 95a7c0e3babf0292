"""Who is measured: each deploys the same repository into a root of its own. A service's restart is left out of all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.measure import Figures, run

PYTHON = getattr(sys, "_base_executable", sys.executable)
PATH = "/usr/local/bin:/usr/bin:/bin"
KEEP = 5
FABRIC = "fabric==3.2.3"


@dataclass(frozen=True)
class Ground:
    """What all contestants share."""

    folder: Path
    repository: Path
    index_url: str
    recipes: Path  # a copy that the unprivileged user can read
    unprivileged: dict[str, Any]


@dataclass
class Contestant:
    """One way to deploy. `commands`: scenario to arguments; `adds_nothing`: it notices that nothing is new."""

    name: str
    ground: Ground
    root: Path
    commands: dict[str, list[str]]
    version: str
    cwd: Path = Path("/")
    adds_nothing: bool = False
    shared: dict[str, str] = field(default_factory=dict)
    tree: str = "current"  # where manage.py is
    venv: str = "current/venv"
    caches: tuple[str, ...] = ("home",)

    def environment(self) -> dict[str, str]:
        """For the contestant's programs; nothing of ours leaks in."""
        return {
            "PATH": PATH, "HOME": str(self.root / "home"), "LANG": "C.UTF-8", "USER": "deploy",
            "DATABASE_PATH": str(self.root / "shared" / "db.sqlite3"), **self.shared,
        }  # fmt: skip

    def prepare(self) -> None:
        for name in ("home", "shared", "tmp"):
            (self.root / name).mkdir(parents=True)
        self.own()

    def own(self) -> None:
        if self.ground.unprivileged:
            user = self.ground.unprivileged["user"]
            subprocess.run(["chown", "-R", f"{user}:{user}", self.root], check=True)

    @property
    def link(self) -> Path:
        return self.root / "current"

    @property
    def log(self) -> Path:
        return self.root.with_name(f"{self.root.name}.log")

    def run(self, scenario: str) -> Figures:
        """Raises CommandFailed."""
        return run(
            self.commands[scenario], env=self.environment(), cwd=self.cwd, log=self.log, link=self.link,
            unprivileged=self.ground.unprivileged,
        )  # fmt: skip

    def live(self) -> Path:
        return self.link.resolve(strict=True)

    def number(self) -> int:
        """The revision that is live: what its own Python says with the site imported from its own packages."""
        script = (
            "import sys, django, shop.wsgi, shop.libraries, shop.revision\n"
            "assert django.__file__.startswith(sys.prefix), django.__file__\n"
            "print(shop.revision.NUMBER)"
        )
        tree = (self.root / self.tree).resolve()
        done = subprocess.run(
            [self.root / self.venv / "bin" / "python", "-B", "-c", script], cwd=tree, env=self.environment(),
            stdout=subprocess.PIPE, check=True, text=True, **self.ground.unprivileged,
        )  # fmt: skip
        return int(done.stdout)

    def static_files(self) -> int:
        """How many static files the live release has."""
        return sum(len(files) for _, _, files in os.walk((self.root / self.tree).resolve() / "staticfiles"))


class BbRelease(Contestant):
    """bb-release as it is: no units, no health page."""

    def prepare(self) -> None:
        super().prepare()
        self.write_config(KEEP)

    @property
    def config(self) -> Path:
        return self.root.with_name(f"{self.root.name}.toml")

    def write_config(self, keep: int) -> None:
        self.config.write_text(
            f'repository = "{self.ground.repository}"\nbranch = "main"\nroot = "{self.root}"\nallow_file_url = true\n'
            f'cache = "{self.root}/home"\nindex_url = "{self.ground.index_url}"\nkeep = {keep}\n'
            f'python = "{PYTHON}"\n[environment]\nDATABASE_PATH = "{self.root}/shared/db.sqlite3"\n'
        )


def bb_release(ground: Ground, program: Path, name: str = "bb-release") -> BbRelease:
    """The agent of this checkout, with its byte code as pip would have installed it: the user cannot write it."""
    script = "import bb_release, compileall; compileall.compile_dir(bb_release.__path__[0], quiet=1)"
    subprocess.run([program.with_name("python"), "-c", script], check=True, cwd="/")
    root = ground.folder / name
    words = [str(program), "--config", str(root.with_name(f"{name}.toml"))]
    return BbRelease(
        name, ground, root,
        {
            **{scenario: [*words, "deploy"] for scenario in ("cold", "code", "requirements", "static")},
            "nothing": [*words, "deploy", "--if-changed"], "back": [*words, "switch", "previous"],
            "rollback": [*words, "rollback"],
        },
        version=said([str(program), "--version"], ground), adds_nothing=True,
        tree="current/app",
    )  # fmt: skip


def peer(
    ground: Ground, name: str, deploy: list[str], rollback: list[str], *, version: str, cwd: Path = Path("/")
) -> Contestant:
    """A tool that makes a whole release whatever changed."""
    root = ground.folder / name.split()[0].lower().replace("'s", "")
    shared = {
        "ROOT": str(root), "REPOSITORY": str(ground.repository), "PYTHON": PYTHON, "KEEP": str(KEEP),
        "PIP_INDEX_URL": ground.index_url, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }  # fmt: skip
    commands = dict.fromkeys(("cold", "code", "requirements", "static", "nothing"), deploy)
    commands |= dict.fromkeys(("back", "rollback"), rollback)
    return Contestant(name, ground, root, commands, version, cwd=cwd, shared=shared)


def article(ground: Ground) -> Contestant:
    words = ["/bin/bash", str(ground.recipes / "deploy.sh")]
    version = said(["/bin/bash", "-c", "echo bash $BASH_VERSION"], ground)
    return peer(ground, "Article's script", [*words, "deploy"], [*words, "rollback"], version=version)


def fabric(ground: Ground, uv: Path) -> Contestant:
    """Fabric from the index, in an environment of its own. Raises CalledProcessError."""
    venv = ground.folder / "fabric-venv"
    subprocess.run([uv, "venv", "-q", "--python", PYTHON, venv], check=True)
    subprocess.run(
        [uv, "pip", "install", "-q", "--compile-bytecode", "--python", venv / "bin/python", FABRIC], check=True
    )
    words = [str(venv / "bin/fab"), "--search-root", str(ground.recipes)]
    version = said([str(venv / "bin/fab"), "--version"], ground).split("\n")[0]
    return peer(ground, "Fabric", [*words, "deploy"], [*words, "rollback"], version=version)


def capistrano(ground: Ground) -> Contestant | None:
    """Debian's, installed when root runs the measurement; None where there is none."""
    if shutil.which("cap", path=PATH) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet: dict[str, Any] = {
            "stdout": subprocess.DEVNULL,
            "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        }
        apt = ["flock", "-w", "900", "/run/lock/with-systemd-apt", "apt-get", "-q"]  # it may be at work for a test
        subprocess.run([*apt, "update"], check=False, **quiet)
        subprocess.run([*apt, "install", "-y", "--no-install-recommends", "capistrano"], check=False, **quiet)
    program = shutil.which("cap", path=PATH)
    if program is None:
        return None
    words = [program, "production"]
    version = said([program, "--version"], ground)
    return peer(
        ground, "Capistrano", [*words, "deploy"], [*words, "deploy:rollback"], version=version, cwd=ground.recipes
    )


def peers(ground: Ground, uv: Path) -> tuple[list[Contestant], list[str]]:
    """The others, and who is left out and why. Raises CalledProcessError."""
    debians = capistrano(ground)
    found = [article(ground), fabric(ground, uv)]
    return (found, ["Capistrano (it is not installed)"]) if debians is None else ([*found, debians], [])


def said(argv: list[str], ground: Ground) -> str:
    """What a program says of itself."""
    env = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(ground.folder)}
    done = subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, check=True, **ground.unprivileged)
    return done.stdout.strip()
