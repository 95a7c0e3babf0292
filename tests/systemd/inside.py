"""Run inside a booted systemd (see test_booted.py): the units of `systemd/`, used as they are.

A deploy user, a site user (www-data), sudo with exact lines; everything written is gone with the overlay.
"""

from __future__ import annotations

import json
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
    POLKIT,
    PROJECT,
    REPOSITORY,
    TESTS,
    commit,
    health,
    make_host,
    make_root,
    note,
    polkit_rules,
    sh,
)
from booted_host import current as current_of

from bb_release.tools.units import UnitSettings
from bb_release.tools.units.systemd import SystemdUnit

ROOT = Path("/srv/broken_brackets")
UNITS = ("broken_brackets.service", "broken_brackets-celery.service", "broken_brackets-beat.service")
SUDOERS = Path("/etc/sudoers.d/bb-release")


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
    shutil.copy(PROJECT / "systemd/bb-release-broken_brackets", SUDOERS)
    SUDOERS.chmod(0o440)
    sh("visudo", "-cf", SUDOERS)
    for unit in (PROJECT / "systemd").glob("broken_brackets*.s*"):
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
    systemctl, web = "/usr/bin/systemctl", "broken_brackets.service"
    assert sh("sudo", "-n", systemctl, "restart", web, user="deploy").returncode == 0
    before = prop(web, "MainPID")
    for words in (
        (systemctl, "stop", web), (systemctl, "edit", web), (systemctl, "restart", "broken_brackets"),
        (systemctl, "restart", "ssh.service"), (systemctl, "restart", web, "ssh.service"),
        (systemctl, "restart", "broken_brackets*"), (systemctl, "restart", f"{web} "), (systemctl, "restart", "-p", web),
        (systemctl, "--root=/tmp", "restart", web), (systemctl, "restart", "broken_brackets.socket"),
        (systemctl, "daemon-reload"), (systemctl, "link", f"/tmp/{web}"), ("/bin/../usr/bin/systemctl", "restart", web),
        ("/tmp/systemctl", "restart", web), ("sh", "-c", f"{systemctl} restart {web}"),
    ):  # fmt: skip
        refusal = sh("sudo", "-n", *words, user="deploy", check=False)
        assert refusal.returncode != 0, words
        assert "a password is required" in refusal.stderr or "not found" in refusal.stderr, (words, refusal.stderr)
    assert before == prop(web, "MainPID")


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


def test_a_unit_whose_crashes_have_used_up_its_starts_is_restarted_all_the_same() -> None:
    """systemd's own starts count for the limit too, and the unit runs: no failed state tells of it."""
    name = "flaps.service"
    file = Path("/etc/systemd/system") / name
    file.write_text(
        "[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=2\n"
        "[Service]\nExecStart=/bin/sleep 3000\nRestart=always\nRestartSec=50ms\n"
    )
    sh("systemctl", "daemon-reload")
    unit = SystemdUnit(
        UnitSettings(name, socket="", commands={}, user=False, stop_seconds=10.0, handover="restart", env={})
    )

    def main_process_after_a_crash() -> str:
        sh("systemctl", "start", name)
        sh("systemctl", "kill", "--signal=KILL", name)
        deadline = time.monotonic() + 30
        while ("1", "active") != (prop(name, "NRestarts"), prop(name, "ActiveState")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return prop(name, "MainPID")

    try:
        main_process_after_a_crash()
        assert sh("systemctl", "restart", name, check=False).returncode == 1  # else nothing is tried here
        sh("systemctl", "reset-failed", name)
        before = main_process_after_a_crash()
        unit.restart()
        assert "active" == prop(name, "ActiveState")
        assert prop(name, "MainPID") not in (before, "0")
    finally:
        sh("systemctl", "stop", name, check=False)
        file.unlink()
        sh("systemctl", "daemon-reload")


# the right to change units: sudo, polkit, or both


def test_a_user_who_may_nothing_is_told_both_ways_and_each_of_them_works_alone() -> None:
    by_hand = SUDOERS.read_text()
    SUDOERS.unlink()
    pids = {unit: prop(unit, "MainPID") for unit in UNITS}

    said = refused()

    lines = re.findall(r"^ +(deploy ALL=.*)$", said, re.MULTILINE)
    rules = polkit_rules(said)
    assert (len(UNITS), len(UNITS)) == (len(lines), len(rules))
    failed = bb("restart", "broken_brackets-beat.service", check=False)
    assert failed.returncode == 21
    assert "error: units-not-restarted" in failed.stderr

    # polkit alone
    POLKIT.write_text("\n".join(rules) + "\n")
    deadline = time.monotonic() + 60  # polkitd watches the folder
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


# what check finds in units as systemd has read them, and the environment that one of them has


def drop_in(unit: str, text: str) -> None:
    place = Path(f"/etc/systemd/system/{unit}.d/tried.conf")
    place.parent.mkdir(exist_ok=True)
    place.write_text(text)
    sh("systemctl", "daemon-reload")


def as_it_was() -> None:
    for place in Path("/etc/systemd/system").glob("*.d/tried.conf"):
        place.unlink()
        place.parent.rmdir()
    sh("systemctl", "daemon-reload")


def warned() -> dict[str, str]:
    """What check warns of in the units, and what to do about it."""
    facts = json.loads(bb("check", "--json", check=False).stdout)["facts"]
    found = {fact["text"]: fact["do"] for fact in facts if fact["group"] == "units" and fact["level"] != "ok"}
    return {text: do for text, do in found.items() if "at boot" not in text}  # nothing is enabled here


def test_check_finds_the_lines_that_would_go_wrong_and_none_in_the_units_that_we_write() -> None:
    assert {} == warned()
    waits = f"{UNITS[0]} has a socket: requests wait in it while the service restarts"
    loses = "but uvicorn may lose one or two when it stops"
    well = bb("check", check=False).stdout
    assert (True, False) == (waits in well, loses in well)
    program = f"{ROOT}/current/venv/bin"
    web = f"{program}/python -m gunicorn --chdir {ROOT}/current/app --graceful-timeout 60 broken_brackets.wsgi"
    web += " --worker-class uvicorn_worker.UvicornWorker"
    drop_in(UNITS[0], f"[Service]\nExecStart=\nExecStart={web}\nExecReload=/bin/kill -HUP $MAINPID\n")
    drop_in(UNITS[1], "[Service]\nKillMode=control-group\nPrivateTmp=yes\nProtectSystem=strict\n")
    drop_in(UNITS[2], f"[Service]\nExecStart=\nExecStart={program}/celery -A broken_brackets beat\n")
    drop_in("broken_brackets.socket", "[Socket]\nBacklog=64\n")
    drop_in("bb-release@broken_brackets.service", "[Service]\nNoNewPrivileges=yes\n")
    try:
        found = warned()
        assert f"{waits}, {loses}" in bb("check", check=False).stdout
    finally:
        as_it_was()

    name = "50-bb-release-broken_brackets.rules"
    (hardened,) = [text for text in found if text.startswith("bb-release@broken_brackets.service has NoNewPrivileges=")]
    rule = (PROJECT / "systemd" / name).read_text()
    assert found.pop(hardened) == f"as root, in {POLKIT.with_name(name)}:\n{rule}"
    wanted = {
        f"{UNITS[0]} starts as python -m gunicorn: ": f"ExecStart={program}/gunicorn …",
        f"{UNITS[0]} starts with --chdir {ROOT}/current/app: ": f"take --chdir out; WorkingDirectory={ROOT}/current/app",
        f"{UNITS[0]} can be reloaded, ": "take ExecReload= out: ",
        f"{UNITS[0]} has TimeoutStopSec=45, less than gunicorn's graceful timeout (60 s)": "TimeoutStopSec=75",
        f"{UNITS[1]} has KillMode=control-group ": "KillMode=mixed",
        f"{UNITS[2]} keeps beat's schedule in the release": "StateDirectory=broken_brackets-beat and ",
        "broken_brackets.socket has Backlog=64: ": "take Backlog= out",
    }
    assert len(wanted) == len(found), found
    for (text, change), (said, do) in zip(sorted(wanted.items()), sorted(found.items()), strict=True):
        assert said.startswith(text)
        unit = text.partition(" ")[0]
        assert do.startswith(f"sudo systemctl edit --full {unit}   # {change}")


def test_manage_py_gets_the_environment_that_systemd_gives_the_unit() -> None:
    config = Path("/etc/bb-release/broken_brackets.toml")
    text = (
        config.read_text().replace(f'env_file = "{ROOT}/shared/site.env"', f'environment = "unit:{UNITS[0]}"')
        + '\n[[run]]\nat = "after-verify"\ncommand = ["printenv", "GREETING", "FAREWELL"]\n'
    )
    more = Path("/etc/more.env")
    more.write_text("FAREWELL='until  we meet'\nGREETING=overruled-by-a-file\n")
    more.chmod(0o600)
    drop_in(UNITS[0], '[Service]\nEnvironment="GREETING=a long  \\"word\\"" "ODD=$x `y` \\\\ é" GONE=1\n'
                      "EnvironmentFile=/etc/more.env\nEnvironmentFile=-/etc/none.env\nUnsetEnvironment=GONE\n")  # fmt: skip
    config.write_text(text)
    try:
        note("another environment")
        before = releases()
        closed = bb("deploy", check=False)
        assert (2, True) == (closed.returncode, "which deploy may not read" in closed.stderr), closed.stderr
        assert before == releases()
        remedy = re.search(r"remedy: +sudo (chgrp .*) && sudo (chmod .*?) +#", closed.stderr)
        assert remedy, closed.stderr
        for command in remedy.groups():
            sh(*command.split())

        bb("deploy")

        given = Path(f"/proc/{prop(UNITS[0], 'MainPID')}/environ").read_bytes().decode().split("\0")
        ours = bb("exec", "--", "env", "-0").stdout.split("\0")
        names = (
            "GREETING=",
            "FAREWELL=",
            "ODD=",
            "GONE=",
            "SECRET_KEY=",
            "DATABASE_PATH=",
            "BB_RELEASE=",
            "SPT_NOENV=",
        )
        ours, given = ([line for line in sorted(each) if line.startswith(names)] for each in (ours, given))
        assert given == ours
        assert "GREETING=overruled-by-a-file" in ours and "ODD=$x `y` \\ é" in ours and len(ours) == 7
        log = bb("log").stdout
        assert log.count("****") == 2, log
        assert "overruled-by-a-file" not in log + bb("config").stdout
        assert "GREETING" in bb("config").stdout
        found = json.loads(bb("check", "--json", check=False).stdout)["facts"]
        (told,) = [fact["text"] for fact in found if fact["text"].startswith("environment of ")]
        assert told.endswith(f"names, with {ROOT}/shared/site.env, /etc/more.env"), told
        more.unlink()
        assert (
            "is not there" in bb("status", "--json", check=False).stderr + bb("exec", "--", "env", check=False).stderr
        )
    finally:
        as_it_was()
        more.unlink(missing_ok=True)
        configure()
        bb("restart")
