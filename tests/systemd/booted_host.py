"""The host inside a booted systemd: the agent installed, a deploy user, a repository, words to act on them."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TESTS = PROJECT / "tests"
REPOSITORY = Path("/srv/repository")
AGENT = Path("/usr/local/bin/bb-release")
POLKIT = Path("/etc/polkit-1/rules.d/50-bb-release.rules")
CACHE = Path("/srv/cache")  # one for all apps of the deploy user


def sh(*words: str | Path, user: str = "root", check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program with as little environment as cron gives."""
    entry = pwd.getpwnam(user)
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": entry.pw_dir, "LANG": "C.UTF-8"}
    env.update({name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ})
    groups = {"user": user, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}
    done = subprocess.run(
        [str(word) for word in words], cwd="/", env=env, capture_output=True, text=True, timeout=300, **groups
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def make_host() -> None:
    """What the README says to do on a host, as far as no app is concerned."""
    sh("useradd", "--create-home", "--groups", "www-data,systemd-journal", "deploy")
    sh(PROJECT / "scripts/install")
    sh("install", "-d", "-o", "deploy", "-m", "755", CACHE)
    shutil.copytree(TESTS / "broken_brackets", REPOSITORY, ignore=shutil.ignore_patterns("__pycache__"))
    sh("chown", "-R", "deploy:", REPOSITORY)
    sh("git", "init", "-q", "-b", "main", REPOSITORY, user="deploy")
    commit("the first revision")


def linger() -> None:
    """The deploy user's own systemd runs and answers: its socket is there some moments before it can be connected to."""
    runtime = f"XDG_RUNTIME_DIR=/run/user/{pwd.getpwnam('deploy').pw_uid}"
    sh("loginctl", "enable-linger", "deploy")
    deadline = time.monotonic() + 60
    while sh("env", runtime, "systemctl", "--user", "show", "-p", "Version", user="deploy", check=False).returncode:
        assert time.monotonic() < deadline, "the user's own systemd did not start"
        time.sleep(0.05)


def polkit_rules(said: str) -> list[str]:
    """Those that a refused command printed, as they are."""
    return re.findall(r"^ +(polkit\.addRule\(.*?^ +}\);)$", said, re.MULTILINE | re.DOTALL)


def make_root(root: Path) -> None:
    """The root of an app, with the site's environment in it."""
    sh("install", "-d", "-o", "deploy", "-m", "755", root, root / "shared")
    env = root / "shared/site.env"
    env.write_text(f"SECRET_KEY={'x' * 60}\nDATABASE_PATH={root}/shared/db.sqlite3\nCELERY_BROKER_URL=memory://\n")
    sh("chown", "deploy:", env)
    env.chmod(0o600)


def commit(message: str) -> str:
    sh("chown", "-R", "deploy:", REPOSITORY)
    git = ("git", "-C", REPOSITORY, "-c", "user.name=Dev", "-c", "user.email=dev@example.org")
    sh(*git, "add", "-A", user="deploy")
    sh(*git, "commit", "-q", "-m", message, user="deploy")
    return sh(*git, "rev-parse", "HEAD", user="deploy").stdout.strip()


def note(text: str) -> str:
    """A new revision that changes nothing that matters."""
    (REPOSITORY / "NOTE").write_text(f"{text}\n")
    return commit(text)


def current(root: Path) -> str:
    return os.readlink(root / "current").removeprefix("releases/")


def health(address: str | tuple[str, int]) -> dict[str, str]:
    """What the health view says, at the path of a unix socket or at an address and port."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    connection.sock.settimeout(60)
    connection.sock.connect(address)
    connection.request("GET", "/health/")
    facts: dict[str, str] = json.loads(connection.getresponse().read())
    connection.close()
    return facts
