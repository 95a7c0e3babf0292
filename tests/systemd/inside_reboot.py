"""Run inside some boots of one host, a test function in each (see test_rebooted.py): what serves after a boot.

Three sites of one repository: `waiting` behind a socket, `colours` blue-green, and `own` blue-green with units of the
deploy user's own. Between the boots PID 1 ends and with it every process; /run and /tmp are empty afterwards.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import booted_host
from booted_host import AGENT, CACHE, current, health, make_root, note, sh
from oracle import Oracle, put_others, stop_tree
from test_rebooted import MOVED, STEPS

KNOWN, TOLD = Path("/srv/before.json"), Path("/srv/steps.json")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
APPS = ("waiting", "colours", "own")
UNITS = {"waiting": "waiting.service", "colours": "colours@.service", "own": "own@.service"}


def root(app: str) -> Path:
    return Path("/srv") / app


def runtime() -> Path:
    return Path(f"/run/user/{pwd.getpwnam('deploy').pw_uid}")


def address(app: str) -> str:
    """Where the site answers: the socket that systemd holds, or the link that nginx would follow."""
    folder = runtime() if app == "own" else Path("/run")
    return str(folder / app / ("web.sock" if app == "waiting" else "active.sock"))


def bb(app: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return sh(AGENT, "-a", app, *words, user="deploy", check=check)


def ask(app: str, unit: str, name: str) -> str:
    """One property of a unit, from the systemd that runs it."""
    question = ("systemctl", "show", "-p", name, "--value", unit)
    if app == "own":
        question = ("env", f"XDG_RUNTIME_DIR={runtime()}", "systemctl", "--user", *question[1:])
    return sh(*question, user="deploy").stdout.strip()


def configure(app: str) -> None:
    make_root(root(app))
    (root(app) / "shared").chmod(0o2770)
    sh("chown", "-R", "deploy:www-data", root(app) / "shared")
    unit = f'name = "{UNITS[app]}"\nsettle_seconds = 1\nuser = {str(app == "own").lower()}\n'
    if app != "waiting":
        unit += f'handover = "blue-green"\nsocket = "{address(app)}"\n'
    Path(f"/etc/bb-release/{app}.toml").write_text(
        f'repository = "{booted_host.REPOSITORY}"\nallow_file_url = true\nroot = "{root(app)}"\ncache = "{CACHE}"\n'
        f'env_file = "{root(app)}/shared/site.env"\napplication = "broken_brackets.wsgi:application"\n'
        f'[health]\nurl = "http+unix://{address(app)}:/health/"\nrelease = "header:X-Release"\n[[units]]\n{unit}'
    )


def install(app: str) -> None:
    """`units --install` by whom the units belong to, and what it says to type; no nginx, no timer."""
    user = "deploy" if app == "own" else "root"
    said = sh(AGENT, "-a", app, "units", "--systemd", "--install", user=user).stdout
    for line in re.findall(r"(?m)^  ((?:XDG_RUNTIME_DIR=\S+ )?systemctl .*|systemd-tmpfiles .*)$", said):
        if ".timer" not in line:
            sh("env", *line.partition("#")[0].split(), user=user)


def wait_until_well(app: str) -> None:
    deadline = time.monotonic() + 90
    while (done := bb(app, "status", check=False)).returncode:
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(0.3)


def judge(app: str) -> Oracle:
    return Oracle(root(app), Path(booted_host.REPOSITORY), root(app) / "shared" / "db.sqlite3", serves=b"gunicorn")


def require_one(app: str, release: str) -> None:
    """All that has to be true whenever nothing is under way."""
    judge(app).require_whole(recovered=True)
    assert release == current(root(app)) == health(address(app))["release"]
    if app == "waiting":
        assert "active" == ask(app, "waiting.socket", "ActiveState") == ask(app, UNITS[app], "ActiveState")
        return
    (colour,) = (
        each for each in ("blue", "green") if os.path.realpath(root(app) / "slots" / each).endswith(f"/{release}")
    )
    idle = {"blue": "green", "green": "blue"}[colour]
    assert f"{colour}.sock" == os.readlink(address(app))
    states = [ask(app, f"{app}@{each}.service", "ActiveState") for each in (colour, idle)]
    assert ["active", "inactive"] == states


def state_of(app: str, release: str) -> str:
    return str(json.loads((root(app) / "releases" / release / "release.json").read_text())["state"])


def remember(**facts: str) -> None:
    KNOWN.write_text(json.dumps({"boot": BOOT_ID.read_text(), **facts}))
    os.sync()


def remembered() -> dict[str, str]:
    """What the boot before left; this one has to be another."""
    facts: dict[str, str] = json.loads(KNOWN.read_text())
    assert BOOT_ID.read_text() != facts["boot"]
    return facts


def require_ran_at_boot(app: str, unit: str) -> None:
    """Nobody typed anything."""
    deadline = time.monotonic() + 120
    while ask(app, unit, "ExecMainExitTimestampMonotonic") in ("", "0"):
        assert time.monotonic() < deadline, f"{unit} did not run"
        time.sleep(0.3)
    assert "success" == ask(app, unit, "Result")


def test_the_first_boot_sets_up_three_sites() -> None:
    booted_host.make_host()
    Path("/etc/bb-release").mkdir()
    booted_host.linger()
    told = {}
    for app in APPS:
        configure(app)
        put_others(root(app))
        install(app)
        bb(app, "deploy")
        require_one(app, current(root(app)))
        note(f"{app} shows its steps")
        told[app] = re.findall(r"(?m)^  ([a-z-]+) +[0-9.]+ s$", bb(app, "deploy").stdout)
        assert set(told[app]) <= set(STEPS)
    TOLD.write_text(json.dumps(told))
    remember(**{app: current(root(app)) for app in APPS})


def require_recovered(before: dict[str, str]) -> None:
    """What was live when the boot before ended serves, verified, and nobody typed anything."""
    for app in APPS:
        if app != "waiting":
            require_ran_at_boot(app, f"{app}-boot.service")
        require_ran_at_boot(app, f"bb-release-recover@{app}.service")
        wait_until_well(app)
        require_one(app, before[app])
        assert "verified" == state_of(app, before[app])


def stop_in(app: str, step: str) -> str:
    """Start a deploy and stop it as a step begins, or within it; returns which, "" where this site has no such step."""
    told = [*json.loads(TOLD.read_text())[app], MOVED]
    if step not in told:
        return ""
    entry = pwd.getpwnam("deploy")
    passed = {name: value for name, value in os.environ.items() if name.startswith("SSL_")}
    before = current(root(app))
    agent = subprocess.Popen(
        [AGENT, "-a", app, "deploy"], user="deploy", group=entry.pw_gid, cwd="/", stdin=subprocess.DEVNULL,
        extra_groups=os.getgrouplist("deploy", entry.pw_gid), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", **passed}, start_new_session=True, text=True,
    )  # fmt: skip
    assert agent.stdout
    if step == MOVED:
        while current(root(app)) == before:
            assert agent.poll() is None, agent.stdout.read()
            time.sleep(0.001)
    else:
        last = told[told.index(step) - 1] if step != told[0] else "release"
        for line in agent.stdout:
            if line.split()[:1] == [last]:
                break
        else:
            raise AssertionError(f"{app} ended before {step}")
        time.sleep(random.random() / 50)
    stop_tree(agent.pid)  # it is still there when PID 1 is killed, as are its programs, in the middle of what they do
    assert agent.poll() is None, f"{app} ended before it was stopped in {step}"
    return step


@pytest.mark.parametrize("step", STEPS)
def test_a_boot_begins_well_and_ends_in(step: str) -> None:
    require_recovered(remembered())
    note(f"what is under way in {step} when the power goes")
    stopped = [stop_in(app, step) for app in APPS]
    assert any(stopped)
    assert [] == [problem for app in APPS for problem in judge(app).problems(recovered=False)]
    if step == MOVED:
        assert ["activating"] * len(APPS) == [state_of(app, current(root(app))) for app in APPS]
    remember(**{app: current(root(app)) for app in APPS})


def test_the_last_boot_finishes_what_was_under_way_and_serves_it() -> None:
    require_recovered(remembered())
    revision = note("and the next one is as any other")
    for app in APPS:
        bb(app, "deploy")
        require_one(app, current(root(app)))
        assert revision == health(address(app))["revision"]
