"""A real site for the demo and the end-to-end tests: a git repository, supervisord, gunicorn, the agent."""

from __future__ import annotations

import atexit
import grp
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PROJECT = TESTS.parent
NOBODY = 65534


def unprivileged() -> dict[str, object]:
    """Arguments for subprocess that leave root behind, when root started us."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def agent() -> Path:
    """The installed command, in a place where the unprivileged user may run it."""
    program = PROJECT / ".venv" / "bin" / "bb-release"
    try:
        subprocess.run([program, "--version"], capture_output=True, check=True, cwd="/", **unprivileged())
    except (OSError, subprocess.CalledProcessError):
        pass  # a checkout in a private folder
    else:
        return program
    folder = Path(tempfile.gettempdir()) / f"bb-release-agent-{os.getpid()}"
    if not folder.exists():
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        uv = PROJECT / ".venv" / "bin" / "uv"
        subprocess.run([uv, "venv", "-q", "--python", sys.base_prefix + "/bin/python3", folder], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", folder / "bin/python", PROJECT], check=True)
    return folder / "bin" / "bb-release"


# Bound later by what is started, and again at each restart: so none that the kernel gives to anybody (ip(7),
# ip_local_port_range), and of a part that is this process's own.
_PART = 3_000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4)
_PORTS = itertools.chain.from_iterable(
    itertools.repeat([20_000 + _PART + number for number in random.sample(range(3_000), 3_000)])
)


def free_port() -> int:
    for port in itertools.islice(_PORTS, 3_000):
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


class Site:
    """One site in one folder. Everything runs as an unprivileged user, also when root starts it."""

    project = TESTS / "broken_brackets"
    supervised_by_root = False

    def __init__(self, folder: Path, *, cache: Path | None = None, worker: bool = False) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.root = folder / "broken_brackets"
        self.config = folder / "broken_brackets.toml"
        self.port = free_port()
        self.bind = f"127.0.0.1:{self.port}"
        self.health = f"http://{self.bind}/health/"
        self.units = ["web", "worker"] if worker else ["web"]
        self.handover = ""
        self.settings: dict[str, str] = {}
        self.bare = False  # no units, no health: nothing but the build and the link
        self.program = agent()
        self.prefix: tuple[str, ...] = ()  # before the agent's own words: who traces it
        self.supervisord: subprocess.Popen[bytes] | None = None
        self.cache = cache or folder / "cache"
        self.scratch = folder / "tmp"  # what a killed run leaves there goes with the test
        for path in (self.root, self.cache, self.scratch):
            path.mkdir(exist_ok=True)
        shutil.copytree(self.project, self.repository, ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / "shared").mkdir()
        (self.root / "shared" / "site.env").write_text(
            f'SECRET_KEY="{"a-secret-that-must-not-be-shown-" * 2}"\n'
            f"DATABASE_PATH={self.root}/shared/db.sqlite3\nCELERY_BROKER_URL=memory://\n"
        )
        (self.root / "shared" / "site.env").chmod(0o600)
        self.write_config()
        self.own()
        self.git("init", "-q", "-b", "main")
        self.commit("the first revision")

    def own(self, *paths: Path) -> None:
        """Give everything, or some of it, to the unprivileged user."""
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", *(paths or (self.folder, self.cache))], check=True)

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=Dev", "-c", "user.email=dev@example.org", "-c", "commit.gpgsign=false",
             *words],
            cwd=self.repository, capture_output=True, text=True, check=True,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"}, **unprivileged(),
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.own(self.repository)  # not the rest: programs of a killed agent may still write there
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def edit(self, path: str, content: str, message: str = "an edit") -> str:
        (self.repository / path).parent.mkdir(parents=True, exist_ok=True)
        (self.repository / path).write_text(content)
        return self.commit(message)

    def second_revision(self) -> str:
        """A migration, a changed requirement, a changed static file."""
        shutil.copytree(TESTS / "broken_brackets_second", self.repository, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        return self.commit("the second revision")

    @property
    def socket(self) -> Path:
        return self.folder / "s.sock"

    def write_config(self, **settings: str) -> None:
        """The configuration; `settings` are top-level keys with their TOML values."""
        self.settings.update(settings)
        lines = {
            "repository": f'"{self.repository}"',
            "branch": '"main"',
            "root": f'"{self.root}"',
            "allow_file_url": "true",
            "cache": f'"{self.cache}"',
            "env_file": f'"{self.root}/shared/site.env"',
            "keep": "3",
            **self.settings,
        }
        text = "".join(f"{key} = {value}\n" for key, value in lines.items() if not key.startswith("["))
        if not self.bare:
            text += f'\n[health]\nurl = "{self.health}"\nrelease = "header:X-Release"\ntimeout_seconds = 15\n'
        text += self.settings.get("[health]", "")
        for unit in () if self.bare else self.units:
            text += f'\n[[units]]\nname = "{unit}"\nkind = "supervisor"\nsocket = "{self.socket}"\nsettle_seconds = 1\n'
            text += f'handover = "{self.handover}"\n' if self.handover else ""
        text += self.settings.get("[run]", "")
        self.config.write_text(text)

    def private(self, name: str, text: str) -> Path:
        """A file with something secret beside the site."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        self.own(path)
        return path

    def program_of(self, unit: str) -> str:
        """The section of one program in Supervisor's configuration."""
        current = self.root / "current"
        before = f"set -a; . {current}/release.env; . {self.root}/shared/site.env; exec {current}/venv/bin/"
        commands = {
            "web": f"gunicorn --no-control-socket --workers 2 --bind {self.bind} broken_brackets.wsgi",
            "worker": "celery -A broken_brackets worker --pool solo --loglevel WARNING",
        }
        return (
            f"[program:{unit}]\ncommand=/bin/sh -c '{before}{commands[unit]}'\ndirectory={current}/app\n"
            f"autostart=false\nstartsecs=1\nstartretries=1\nstopwaitsecs=10\nredirect_stderr=true\n"
            f"stdout_logfile={self.folder}/{unit}.log\n"
        )

    def start_supervisor(self) -> None:
        """The unit manager; its programs start with the first deploy."""
        whose, access = unprivileged(), ""
        if self.supervised_by_root:
            whose, access = {}, f"chown=root:{grp.getgrgid(NOBODY).gr_name}\nchmod=0770\n"
        text = (
            f"[unix_http_server]\nfile={self.socket}\n{access}"
            f"[supervisord]\nnodaemon=true\nlogfile={self.folder}/supervisord.log\npidfile={self.folder}/s.pid\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        text += "".join(self.program_of(unit) for unit in self.units)
        conf = self.folder / "supervisord.conf"
        conf.write_text(text)
        self.own()
        program = PROJECT / ".venv" / "bin" / "python"
        if not self.program.is_relative_to(PROJECT):
            program = self.program.with_name("python")
            uv = PROJECT / ".venv" / "bin" / "uv"
            subprocess.run([uv, "pip", "install", "-q", "--python", program, "supervisor"], check=True)
        self.supervisord = subprocess.Popen(
            [program, "-m", "supervisor.supervisord", "-c", conf], cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder)}, **whose,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while not self.socket.exists():
            if time.monotonic() > deadline or self.supervisord.poll() is not None:
                raise RuntimeError(f"supervisord did not start: {(self.folder / 'supervisord.log').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End supervisord, and with it what it runs."""
        if self.supervisord and self.supervisord.poll() is None:
            self.supervisord.send_signal(signal.SIGTERM)
            try:
                self.supervisord.wait(30)
            except subprocess.TimeoutExpired:
                self.supervisord.kill()
                self.supervisord.wait()

    def command(self, *words: str) -> list[str]:
        return [*self.prefix, str(self.program), "--config", str(self.config), *words]

    def environment(self) -> dict[str, str]:
        passed = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY")
        return {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.scratch),
            **{name: os.environ[name] for name in passed if name in os.environ},
        }

    def run(self, *words: str, show: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run bb-release as the deploy user, and return what it said."""
        terminal = {"TERM": os.environ.get("TERM", "dumb")}
        return subprocess.run(
            self.command(*words), cwd="/", text=True, stdin=subprocess.DEVNULL,
            stdout=None if show else subprocess.PIPE, stderr=None if show else subprocess.PIPE,
            env={**self.environment(), **(terminal if show else {}), **environment}, timeout=600, **unprivileged(),
        )  # fmt: skip

    def deploy(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("deploy", *words)

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def current(self) -> str:
        """The live release's name, "" for none."""
        link = self.root / "current"
        return os.readlink(link).removeprefix("releases/") if link.is_symlink() else ""

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in json.loads(self.ok("list", "--json"))}

    def get(self, path: str = "/health/") -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def answering(self) -> dict[str, str]:
        """What the site's health view says, as JSON."""
        facts: dict[str, str] = json.loads(self.get()[1])
        return facts


@contextmanager
def running_site(*, cache: Path | None = None, worker: bool = False, kind: type[Site] = Site) -> Iterator[Site]:
    """A site in a folder of its own, with supervisord running; all of it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bb-"))  # short: a unix socket's path has at most 107 characters
    folder.chmod(0o755)
    site = None
    try:
        site = kind(folder, cache=cache, worker=worker)
        site.start_supervisor()
        yield site
    finally:
        if site:
            site.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def bare_site(cache: Path) -> Iterator[Site]:
    """A site without units and without a health page, in a folder of its own that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="bb-"))
    folder.chmod(0o755)
    try:
        site = Site(folder, cache=cache)
        site.bare = True
        site.write_config()
        site.own()
        yield site
    finally:
        shutil.rmtree(folder, ignore_errors=True)
