"""Run inside a booted systemd (see test_booted.py): the site as units of the deploy user's own, without sudo."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from booted_host import (
    AGENT,
    CACHE,
    PROJECT,
    REPOSITORY,
    commit,
    current,
    health,
    linger,
    make_host,
    make_root,
    note,
    sh,
)

from example_site import free_port

HOME = Path("/home/deploy")
ROOT = HOME / "broken_brackets"
CONFIG = Path("/etc/bb-release/broken_brackets.toml")
UNITS = HOME / ".config/systemd/user"
UNIT = "broken_brackets.service"
WORKER, BEAT = "broken_brackets-celery.service", "broken_brackets-beat.service"
RECOVER = "bb-release-recover@broken_brackets.service"
PORT = free_port()


def bb(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """As cron has it: not even PATH and HOME, and no variable of a session."""
    return sh("env", "-i", AGENT, "-a", "broken_brackets", *words, user="deploy", check=check)


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
    sh("chown", "-R", "deploy:", HOME)
    for file in Path("/etc/systemd/system").glob("broken_brackets*"):  # of the system, where inside.py has run
        sh("systemctl", "disable", "-q", "--now", file.name)
        file.unlink()
    CONFIG.parent.mkdir(exist_ok=True)
    tables = "".join(f'[[units]]\nname = "{unit}"\nuser = true\nsettle_seconds = 1\n' for unit in (UNIT, WORKER, BEAT))
    CONFIG.write_text(
        f'repository = "{REPOSITORY}"\nallow_file_url = true\nroot = "{ROOT}"\ncache = "{CACHE}"\n'
        f'env_file = "{ROOT}/shared/site.env"\napplication = "broken_brackets.wsgi:application"\n[health]\nurl = "http://127.0.0.1:{PORT}/health/"\n'
        f'release = "header:X-Release"\n{tables}'
    )
    said = bb("units", "--install").stdout
    assert "sudo loginctl enable-linger deploy" in said  # the test does it later


def test_units_writes_them_as_their_owner_alone_and_as_they_lie_in_the_repository() -> None:
    refused = sh(AGENT, "-a", "broken_brackets", "units", "--install", check=False)
    assert "error: not-the-owner" in refused.stderr
    examples = {path.name: path.read_text() for path in (PROJECT / "systemd/user").iterdir()}
    port = {"broken_brackets.socket": ("127.0.0.1:8000", f"127.0.0.1:{PORT}")}
    assert {name: text.replace(*port.get(name, ("", ""))) for name, text in examples.items()} == {
        path.name: path.read_text() for path in UNITS.iterdir()
    }


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
    linger()
    in_session("systemctl", "--user", "daemon-reload")
    for line in re.findall(r"^  \S+ (systemctl --user .*)$", bb("units", "--install").stdout, re.MULTILINE):
        if "timer" not in line:
            assert "Failed" not in in_session(*line.split())

    bb("deploy")
    first = current(ROOT)
    assert answering()["release"] == first
    for unit in sorted(path for path in UNITS.iterdir() if path.is_file()):
        said = in_session("systemd-analyze", "--user", "verify", str(unit).replace("@.", "@broken_brackets."))
        assert said == "", unit.name
    facts = json.loads(bb("check", "--json", check=False).stdout)["facts"]
    names = (UNIT, WORKER, BEAT, RECOVER)
    assert [] == [fact for fact in facts if fact["text"].startswith(names) and fact["level"] != "ok"]
    assert f"{RECOVER} runs at boot" in [fact["text"] for fact in facts]
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


def test_the_users_own_agent_deploys_what_is_new_and_finishes_what_a_killed_run_left() -> None:
    revision = note("for the timer's service of the user")
    assert "" == in_session("systemctl", "--user", "start", "bb-release@broken_brackets.service")
    assert revision == answering()["revision"]

    note("to be killed")
    live = current(ROOT)
    entry = pwd.getpwnam("deploy")
    agent = subprocess.Popen(
        [AGENT, "-a", "broken_brackets", "deploy"], user="deploy", group=entry.pw_gid, cwd="/",
        extra_groups=os.getgrouplist("deploy", entry.pw_gid), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", **{k: v for k, v in os.environ.items() if k.startswith("SSL_")}},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while current(ROOT) == live and time.monotonic() < deadline:
        time.sleep(0.005)
    agent.kill()
    agent.wait()
    assert 1 == bb("status", check=False).returncode
    assert "" == in_session("systemctl", "--user", "start", RECOVER)
    assert 0 == bb("status").returncode
    assert answering()["release"] == current(ROOT) != live


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

    assert f"left: {UNITS}/bb-release@.timer, a unit of that user's own" in said

    timers = sh("systemctl", "list-units", "--all", "--plain", "--no-legend", "bb-release*").stdout
    assert "" == timers
    assert [] == list(Path("/etc/systemd/system").rglob("*bb-release*"))
    assert (False, False) == (AGENT.is_symlink(), Path("/opt/bb-release").exists())
    assert live == answering()
