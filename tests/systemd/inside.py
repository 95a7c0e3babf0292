"""Run inside a booted systemd (see test_booted.py): the units of `systemd/`, used as they are.

A deploy user, a site user (www-data), sudo with exact lines; everything written is gone with the overlay.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TESTS = PROJECT / "tests"
ROOT = Path("/srv/broken_brackets")
REPOSITORY = Path("/srv/repository")
UNITS = ("broken_brackets.service", "broken_brackets-celery.service", "broken_brackets-beat.service")
AGENT = Path("/opt/bb-release/bin/bb-release")
CONFIG = f"""
repository = "{REPOSITORY}"
allow_file_url = true
branch = "main"
root = "{ROOT}"
units = {json.dumps(UNITS)}
env_file = "{ROOT}/shared/site.env"

[health]
url = "http+unix:///run/broken_brackets/web.sock:/health/"
release = "header:X-Release"
"""


def sh(*words: str | Path, user: str = "root", check: bool = True) -> subprocess.CompletedProcess[str]:
    entry = pwd.getpwnam(user)
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": entry.pw_dir, "LANG": "C.UTF-8"}
    env.update({name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ})
    groups = {"user": user, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}
    done = subprocess.run(
        [str(word) for word in words], cwd="/", env=env, capture_output=True, text=True, timeout=300, **groups
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def bb(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return sh(AGENT, *words, user="deploy", check=check)


def commit(message: str) -> str:
    sh("chown", "-R", "deploy:", REPOSITORY)
    git = ("git", "-C", REPOSITORY, "-c", "user.name=Dev", "-c", "user.email=dev@example.org")
    sh(*git, "add", "-A", user="deploy")
    sh(*git, "commit", "-q", "-m", message, user="deploy")
    return sh(*git, "rev-parse", "HEAD", user="deploy").stdout.strip()


def current() -> str:
    return os.readlink(ROOT / "current").removeprefix("releases/")


def answering() -> dict[str, str]:
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect("/run/broken_brackets/web.sock")
    connection.request("GET", "/health/")
    facts: dict[str, str] = json.loads(connection.getresponse().read())
    return facts


def prop(unit: str, name: str) -> str:
    return sh("systemctl", "show", "-p", name, "--value", unit).stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def host() -> None:
    """A host as the README has it."""
    uv = Path(sys.executable).with_name("uv")
    sh("useradd", "--create-home", "--groups", "www-data", "deploy")
    sh(uv, "venv", "-q", "--python", sys.base_prefix + "/bin/python3", "/opt/bb-release")
    sh(uv, "pip", "install", "-q", "--python", "/opt/bb-release/bin/python", PROJECT)
    sh("install", "-d", "-o", "deploy", "-m", "755", ROOT, ROOT / "shared")
    (ROOT / "shared/site.env").write_text(
        f"SECRET_KEY={'x' * 60}\nDATABASE_PATH={ROOT}/shared/db.sqlite3\nCELERY_BROKER_URL=memory://\n"
    )
    sh("chown", "deploy:", ROOT / "shared/site.env")
    (ROOT / "shared/site.env").chmod(0o600)
    shutil.copytree(TESTS / "broken_brackets", REPOSITORY)
    sh("chown", "-R", "deploy:", REPOSITORY)
    sh("git", "init", "-q", "-b", "main", REPOSITORY, user="deploy")
    commit("the first revision")
    Path("/etc/bb-release").mkdir()
    Path("/etc/bb-release/broken_brackets.toml").write_text(CONFIG)
    lines = [f"deploy ALL=(root) NOPASSWD: /usr/bin/systemctl {verb} {unit}"
             for unit in UNITS for verb in ("restart", "start", "reset-failed")]  # fmt: skip
    lines += [f"deploy ALL=(root) NOPASSWD: /usr/bin/systemctl {verb} broken_brackets.socket"
              for verb in ("start", "reset-failed")]  # fmt: skip
    sudoers = Path("/etc/sudoers.d/bb-release")
    sudoers.write_text("\n".join(lines) + "\n")
    sudoers.chmod(0o440)
    sh("visudo", "-cf", sudoers)
    for unit in (PROJECT / "systemd").glob("*.*"):
        if unit.suffix in (".service", ".socket", ".timer"):
            shutil.copy(unit, "/etc/systemd/system")
    sh("systemctl", "daemon-reload")
    sh("systemctl", "start", "broken_brackets.socket")
    bb("deploy")


def test_every_unit_file_passes_systemd_s_own_check() -> None:
    for unit in sorted((PROJECT / "systemd").glob("*.*")):
        if unit.suffix in (".service", ".socket", ".timer"):
            name = unit.name.replace("@.", "@broken_brackets.")
            done = sh("systemd-analyze", "verify", f"/etc/systemd/system/{name}", check=False)
            assert (done.returncode, done.stderr) == (0, ""), unit.name


def test_a_second_revision_goes_live_in_every_unit_and_a_switch_takes_it_back() -> None:
    first = current()
    assert answering()["release"] == first
    before = {unit: prop(unit, "MainPID") for unit in UNITS}
    shutil.copytree(TESTS / "broken_brackets_second", REPOSITORY, dirs_exist_ok=True)
    revision = commit("the second revision")

    bb("deploy")

    assert answering() == {"release": current(), "dependency": "0.6.1", "revision": revision}
    for unit in UNITS:
        assert prop(unit, "ActiveState") == "active"
        assert prop(unit, "MainPID") not in (before[unit], "0")
        working = os.readlink(f"/proc/{prop(unit, 'MainPID')}/cwd")
        assert working == f"{ROOT}/releases/{current()}/app"
    bb("switch", first)
    assert answering()["release"] == first
    assert bb("status").returncode == 0
    bb("unhold")


def test_a_release_whose_service_cannot_start_is_switched_back() -> None:
    live = current()
    (REPOSITORY / "gunicorn.conf.py").write_text("raise SystemExit(3)\n")
    commit("a service that cannot start")

    done = bb("deploy", check=False)

    assert done.returncode == 20, done.stdout + done.stderr
    assert "switched back to" in done.stderr
    assert current() == live
    assert answering()["release"] == live
    assert prop("broken_brackets.socket", "ActiveState") == "active"
    (REPOSITORY / "gunicorn.conf.py").unlink()
    commit("the service can start again")
    bb("deploy")
    assert answering()["release"] == current() != live


def test_the_timer_s_service_deploys_what_is_new_and_nothing_else() -> None:
    live = current()
    sh("systemctl", "start", "bb-release@broken_brackets.service")
    assert current() == live
    (REPOSITORY / "NOTE").write_text("new\n")
    revision = commit("something new")

    sh("systemctl", "start", "bb-release@broken_brackets.service")

    assert answering()["revision"] == revision
    assert current() > live


def test_the_boot_service_finishes_what_a_killed_run_left() -> None:
    (REPOSITORY / "NOTE").write_text("killed\n")
    commit("to be killed")
    agent = subprocess.Popen(
        [AGENT, "deploy"], user="deploy", group=pwd.getpwnam("deploy").pw_gid, cwd="/", stdin=subprocess.DEVNULL,
        extra_groups=os.getgrouplist("deploy", pwd.getpwnam("deploy").pw_gid), stdout=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", **{k: v for k, v in os.environ.items() if k.startswith("SSL_")}},
    )  # fmt: skip
    live, deadline = current(), time.monotonic() + 60
    while current() == live and time.monotonic() < deadline:
        time.sleep(0.005)
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    assert bb("status", check=False).returncode == 1  # activating, unverified

    sh("systemctl", "start", "bb-release-recover@broken_brackets.service")

    assert bb("status").returncode == 0
    assert answering()["release"] == current() != live


def test_a_command_that_the_sudoers_lines_do_not_name_is_refused() -> None:
    for words in (("stop", "broken_brackets.service"), ("restart", "broken_brackets"), ("restart", "ssh.service")):
        assert sh("sudo", "-n", "/usr/bin/systemctl", *words, user="deploy", check=False).returncode != 0
