"""Run inside a booted systemd (see test_booted.py): the units of `systemd/`, used as they are.

A deploy user, a site user (www-data), sudo with exact lines; everything written is gone with the overlay.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from booted_host import (
    AGENT,
    CACHE,
    PROJECT,
    REPOSITORY,
    TESTS,
    commit,
    health,
    make_host,
    make_root,
    note,
    sh,
)
from booted_host import current as current_of

ROOT = Path("/srv/broken_brackets")
UNITS = ("broken_brackets.service", "broken_brackets-celery.service", "broken_brackets-beat.service")
SUDOERS = Path("/etc/sudoers.d/bb-release")
POLKIT = Path("/etc/polkit-1/rules.d/50-bb-release.rules")


def toml(units: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'{{name = "{unit}", settle_seconds = 1}}' for unit in units) + "]"


CONFIG = f"""
repository = "{REPOSITORY}"
allow_file_url = true
branch = "main"
root = "{ROOT}"
cache = "{CACHE}"
units = {toml(UNITS)}
env_file = "{ROOT}/shared/site.env"

[health]
url = "http+unix:///run/broken_brackets/web.sock:/health/"
release = "header:X-Release"
"""


def bb(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return sh(AGENT, *words, user="deploy", check=check)


def current() -> str:
    return current_of(ROOT)


def answering() -> dict[str, str]:
    return health("/run/broken_brackets/web.sock")


def configure(units: tuple[str, ...] = UNITS) -> None:
    Path("/etc/bb-release/broken_brackets.toml").write_text(CONFIG.replace(toml(UNITS), toml(units)))


def releases() -> list[str]:
    return sorted(os.listdir(ROOT / "releases"))


def prop(unit: str, name: str) -> str:
    return sh("systemctl", "show", "-p", name, "--value", unit).stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def host() -> None:
    """A host as the README has it."""
    make_host()
    make_root(ROOT)
    Path("/etc/bb-release").mkdir()
    configure()
    shown = re.findall(r"^deploy ALL=.*$", (PROJECT / "systemd/README.md").read_text(), re.MULTILINE)
    SUDOERS.write_text("\n".join(shown) + "\n")
    SUDOERS.chmod(0o440)
    sh("visudo", "-cf", SUDOERS)
    for unit in (PROJECT / "systemd").glob("broken_brackets*"):
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
    revision = note("something new")

    sh("systemctl", "start", "bb-release@broken_brackets.service")

    assert answering()["revision"] == revision
    assert current() > live


def test_the_boot_service_finishes_what_a_killed_run_left() -> None:
    note("to be killed")
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


# what is found out before anything is built


def refused(*words: str) -> str:
    """A deploy that ends in preflight, and what it said."""
    note(f"something to build, at {time.monotonic()}")
    before, live = releases(), current()
    done = bb("deploy", *words, check=False)
    assert (1, before, live) == (done.returncode, releases(), current()), done.stdout + done.stderr
    assert "error: preflight-failed" in done.stderr
    assert f"still on {live}" in done.stderr
    return done.stderr


def test_a_masked_unit_and_one_that_is_not_there_are_found_before_anything_is_built() -> None:
    configure((*UNITS, "masked.service", "nowhere.service"))
    sh("systemctl", "mask", "--runtime", "masked.service")
    try:
        said = refused()
    finally:
        sh("systemctl", "unmask", "--runtime", "masked.service")
        configure()
    assert "the unit masked.service is masked" in said
    assert "sudo systemctl unmask masked.service" in said
    assert "systemd cannot use the unit nowhere.service: not-found" in said


def test_a_unit_that_is_configured_no_more_but_runs_is_named_with_what_stops_it() -> None:
    configure(UNITS[:2])
    try:
        assert "sudo systemctl disable --now broken_brackets-beat.service" in refused()
    finally:
        configure()


# the right to change units: sudo, polkit, or both


def test_a_user_who_may_nothing_is_told_both_ways_and_each_of_them_works_alone() -> None:
    by_hand = SUDOERS.read_text()
    SUDOERS.unlink()
    pids = {unit: prop(unit, "MainPID") for unit in UNITS}

    said = refused()

    lines = re.findall(r"^ +(deploy ALL=.*)$", said, re.MULTILINE)
    rules = re.findall(r"^ +(polkit\.addRule\(.*?^ +}\);)$", said, re.MULTILINE | re.DOTALL)
    assert (len(UNITS), len(UNITS)) == (len(lines), len(rules))
    failed = bb("restart", "broken_brackets-beat.service", check=False)
    assert failed.returncode == 21
    assert "error: units-not-restarted" in failed.stderr

    # polkit alone
    POLKIT.write_text("\n".join(rules) + "\n")
    deadline = time.monotonic() + 10  # polkitd watches the folder
    while bb("restart", "broken_brackets-beat.service", check=False).returncode and time.monotonic() < deadline:
        time.sleep(0.2)
    assert prop(UNITS[2], "MainPID") not in (pids[UNITS[2]], "0")
    pids = {unit: prop(unit, "MainPID") for unit in UNITS}
    configure(UNITS[:2])
    refused()  # for the unit that is left over: the others may be restarted
    configure()
    assert pids == {unit: prop(unit, "MainPID") for unit in UNITS}  # asking has restarted nothing
    live = current()
    bb("deploy")
    assert answering()["release"] == current() != live
    for words in (("stop", UNITS[0]), ("restart", "dbus.service"), ("daemon-reload",)):
        assert sh("systemctl", "--no-ask-password", *words, user="deploy", check=False).returncode != 0

    # sudo alone, where there is no polkit to ask
    POLKIT.unlink()
    SUDOERS.write_text("\n".join(lines) + "\n")
    SUDOERS.chmod(0o440)
    sh("visudo", "-cf", SUDOERS)
    sh("systemctl", "mask", "--runtime", "--now", "polkit.service")
    try:
        before = prop(UNITS[2], "MainPID")
        bb("restart", UNITS[2])
        assert prop(UNITS[2], "MainPID") not in (before, "0")
        bb("restart", UNITS[0])
        assert answering()["release"] == current()
    finally:
        sh("systemctl", "unmask", "--runtime", "polkit.service")
    SUDOERS.write_text(by_hand)
