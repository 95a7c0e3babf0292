"""Run inside a booted systemd (see test_booted.py): the site as units of the deploy user's own, without sudo."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from booted_host import AGENT, CACHE, PROJECT, REPOSITORY, commit, current, health, make_host, make_root, note, sh

from example_site import free_port

HOME = Path("/home/deploy")
ROOT = HOME / "broken_brackets"
CONFIG = HOME / "broken_brackets.toml"
UNIT = "broken_brackets.service"
PORT = free_port()


def bb(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """As cron has it: not even PATH and HOME, and no variable of a session."""
    return sh("env", "-i", AGENT, "--config", CONFIG, *words, user="deploy", check=check)


def in_session(*words: str | Path) -> str:
    """What a program says to the deploy user, for whom the variable of a session is set."""
    runtime = f"XDG_RUNTIME_DIR=/run/user/{pwd.getpwnam('deploy').pw_uid}"
    done = sh("env", runtime, *words, user="deploy")
    return done.stdout.strip() + done.stderr.strip()


def answering() -> dict[str, str]:
    return health(("127.0.0.1", PORT))


@pytest.fixture(scope="module", autouse=True)
def app() -> None:
    if not AGENT.exists():  # run without inside.py
        make_host()
    make_root(ROOT)
    units = HOME / ".config/systemd/user"
    shutil.copytree(PROJECT / "systemd/user", units)
    (units / "broken_brackets.socket.d").mkdir()
    port = f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{PORT}\n"  # a free one, for tests
    (units / "broken_brackets.socket.d/port.conf").write_text(port)
    sh("chown", "-R", "deploy:", HOME)
    CONFIG.write_text(
        f'repository = "{REPOSITORY}"\nallow_file_url = true\nroot = "{ROOT}"\ncache = "{CACHE}"\n'
        f'env_file = "{ROOT}/shared/site.env"\n[health]\nurl = "http://127.0.0.1:{PORT}/health/"\n'
        f'release = "header:X-Release"\n[[units]]\nname = "{UNIT}"\nuser = true\nsettle_seconds = 1\n'
    )


def test_a_user_who_does_not_linger_is_told_so_before_anything_is_built() -> None:
    done = bb("deploy", check=False)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: preflight-failed" in done.stderr
    assert "loginctl enable-linger deploy" in done.stderr
    assert [] == os.listdir(ROOT / "releases")

    # as for one who is logged in: all would go well, until the logout
    manager = f"user@{pwd.getpwnam('deploy').pw_uid}.service"
    sh("systemctl", "start", manager)
    done = bb("deploy", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"deploy does not linger, so {UNIT} would end when deploy logs out" in done.stderr
    assert [] == os.listdir(ROOT / "releases")
    sh("systemctl", "stop", manager)


def test_two_revisions_go_live_without_any_right_and_a_switch_takes_the_site_back() -> None:
    sh("loginctl", "enable-linger", "deploy")
    deadline = time.monotonic() + 20
    while not Path(f"/run/user/{pwd.getpwnam('deploy').pw_uid}/systemd/private").exists():
        assert time.monotonic() < deadline, "the user's own systemd did not start"
        time.sleep(0.05)
    in_session("systemctl", "--user", "enable", "-q", "--now", "broken_brackets.socket")

    bb("deploy")
    first = current(ROOT)
    assert answering()["release"] == first
    for unit in sorted((PROJECT / "systemd/user").glob("*.*")):
        said = in_session("systemd-analyze", "--user", "verify", HOME / ".config/systemd/user" / unit.name)
        assert said == "", unit.name
    revision = note("a second revision for the user's own units")
    bb("deploy")

    assert {"release": current(ROOT), "dependency": answering()["dependency"], "revision": revision} == answering()
    pid = in_session("systemctl", "--user", "show", "-p", "MainPID", "--value", UNIT)
    assert f"{ROOT}/releases/{current(ROOT)}/app" == os.readlink(f"/proc/{pid}/cwd")
    assert os.stat(f"/proc/{pid}").st_uid == pwd.getpwnam("deploy").pw_uid
    bb("switch", first)
    assert answering()["release"] == first
    assert bb("status").returncode == 0
    bb("unhold")


def test_a_service_of_the_user_that_cannot_start_is_switched_back() -> None:
    live = current(ROOT)
    (REPOSITORY / "gunicorn.conf.py").write_text("raise SystemExit(3)\n")
    commit("a service that cannot start")
    try:
        done = bb("deploy", check=False)
    finally:
        (REPOSITORY / "gunicorn.conf.py").unlink()
        commit("the service can start again")

    assert done.returncode == 20, done.stdout + done.stderr
    assert f"systemctl --user status {UNIT}" in done.stderr
    assert live == current(ROOT) == answering()["release"]


def test_removing_takes_the_agent_and_its_units_and_leaves_the_sites() -> None:
    live = answering()
    sh("systemctl", "enable", "-q", "--now", "bb-release@broken_brackets.timer")
    sh("systemctl", "enable", "-q", "bb-release-recover@broken_brackets.service")

    owner = Path("/etc/systemd/system/bb-release@broken_brackets.service.d/owner.conf")
    owner.parent.mkdir()
    owner.write_text("[Service]\nUser=deploy\n")

    said = sh(PROJECT / "scripts/install", "--remove").stdout

    assert "left: /etc/sudoers.d/bb-release, a right to restart the site's units" in said

    timers = sh("systemctl", "list-units", "--all", "--plain", "--no-legend", "bb-release*").stdout
    assert "" == timers
    assert [] == list(Path("/etc/systemd/system").rglob("*bb-release*"))
    assert (False, False) == (AGENT.is_symlink(), Path("/opt/bb-release").exists())
    assert live == answering()
