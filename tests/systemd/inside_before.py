"""Run inside a booted systemd (see test_booted.py): what is found out about units, sockets and rights beforehand.

And what became of a socket that failed with its service, and of an error where nobody may read the journal.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from booted_host import AGENT, PROJECT, REPOSITORY, commit, sh
from inside import (  # the host is the fixture by which each module has its own
    CONFIG,
    POLKIT,
    ROOT,
    SUDOERS,
    UNITS,
    answering,
    as_it_was,
    bb,
    configure,
    current,
    drop_in,
    host,
    note,
    prop,
    refused,
    releases,
    toml,
    warned,
)

from example_site import free_port

assert host
WEB, WORKER, _ = UNITS
SOCKET = "broken_brackets.socket"
FILE = Path("/etc/bb-release/broken_brackets.toml")
SYSTEM = Path("/etc/systemd/system")


@contextmanager
def dropped_in(unit: str, text: str) -> Iterator[None]:
    drop_in(unit, text)
    try:
        yield
    finally:
        as_it_was()


def test_a_right_to_the_service_that_leaves_out_its_socket_is_refused_before_anything_is_built() -> None:
    by_hand = SUDOERS.read_text()
    half = by_hand.replace(f", /usr/bin/systemctl reset-failed {SOCKET}", "")
    none = "".join(line for line in by_hand.splitlines(keepends=True) if SOCKET not in line)
    assert by_hand != half != none
    try:
        for left, verb in ((none, "start"), (half, "reset-failed")):
            SUDOERS.write_text(left)
            sh("visudo", "-cf", SUDOERS)
            said = refused()
            assert f"deploy may not {verb} {SOCKET}: neither polkit nor sudo allows it" in said
            assert f"/usr/bin/systemctl start {SOCKET}, /usr/bin/systemctl reset-failed {SOCKET}" in said
            assert f"may not restart {WEB}" not in said
    finally:
        SUDOERS.write_text(by_hand)


def test_a_unit_that_nobody_may_stop_by_hand_is_refused_before_anything_is_built() -> None:
    with dropped_in(WORKER, "[Unit]\nRefuseManualStop=yes\n"):
        said = refused()
    assert f"systemd cannot restart the unit {WORKER} (CanStop=no)" in said
    assert "take RefuseManualStop= out of its unit file" in said


CRON = "broken_brackets-cron@.service"


@contextmanager
def template(start: str) -> Iterator[None]:
    """One more unit, of which two instances may run."""
    (SYSTEM / CRON).write_text(f"[Service]\nUser=www-data\nExecStart={start}\n")
    sh("systemctl", "daemon-reload")
    FILE.write_text(CONFIG.replace(toml(UNITS), toml(UNITS)[:-1] + f', {{name = "{CRON}", handover = "blue-green"}}]'))
    try:
        yield
    finally:
        configure()
        (SYSTEM / CRON).unlink()
        sh("systemctl", "daemon-reload")


@pytest.mark.parametrize(
    ("words", "told"), [("beat", "is a beat"), ("worker -B", "has a beat inside (-B)"), ("worker", "")]
)
def test_a_beat_under_any_name_is_never_started_beside_itself(words: str, told: str) -> None:
    with template(f"{ROOT}/slots/%i/venv/bin/celery -A broken_brackets {words} --schedule /var/lib/cron"):
        said = refused()  # of a worker, which may run twice, only the right is missing
    blue = CRON.replace("@", "@blue")
    twice = f"{blue} {told}: while two instances run, each task is sent twice"
    assert (bool(told), True) == (twice in said, f"may not restart {blue}" in said), said


def test_a_beat_that_deploy_would_refuse_is_not_started_by_a_recovery_either() -> None:
    start = f"{ROOT}/slots/%i/venv/bin/celery -A broken_brackets beat --schedule /var/lib/cron"
    with an_instance_to_recover(start) as blue:
        done = bb("recover", check=False)
        assert 21 == done.returncode, done.stdout + done.stderr
        assert f"{blue} is a beat: while two instances run" in done.stderr
        assert "inactive" == prop(blue, "ActiveState")


def test_an_instance_is_told_by_the_name_that_can_be_typed_and_one_beside_it_with_what_stops_it() -> None:
    by_hand, green = SUDOERS.read_text(), CRON.replace("@", "@green")
    with template("/bin/sleep 600"):
        sh("systemctl", "start", green)
        try:
            SUDOERS.write_text(f"{by_hand}deploy ALL=(root) NOPASSWD: /usr/bin/systemctl stop {green}\n")
            told = json.loads(bb("status", "--json", check=False).stdout)
            assert [green] == [unit["name"] for unit in told["beside"]]
            remedies = {each["why"]: each["do"] for each in told["to_do"]}
            assert f"bb-release restart {CRON}" == remedies[f"{CRON.replace('@', '@blue')} does not run"]
            assert "bb-release recover" == remedies[f"{green} still runs, and nothing leads to it"]
            assert f"bb-release restart {CRON}" in warned().values()
            assert f"  beside:   {green}: active (running), process " in bb("status", check=False).stdout
            bb("recover", check=False)
            assert [] == json.loads(bb("status", "--json", check=False).stdout)["beside"]
            assert "inactive" == prop(green, "ActiveState")
        finally:
            sh("systemctl", "stop", green)
            SUDOERS.write_text(by_hand)


@contextmanager
def an_instance_to_recover(start: str) -> Iterator[str]:
    """Its slot leads to the live release, it does not run, and the deploy user may start it; its name."""
    by_hand, blue, slot = SUDOERS.read_text(), CRON.replace("@", "@blue"), ROOT / "slots/blue"
    with template(start):
        try:
            sh("mkdir", "-p", slot.parent, user="deploy")
            sh("ln", "-s", f"../releases/{current()}", slot, user="deploy")
            SUDOERS.write_text(f"{by_hand}deploy ALL=(root) NOPASSWD: /usr/bin/systemctl start {blue}\n")
            yield blue
        finally:
            SUDOERS.write_text(by_hand)
            sh("systemctl", "stop", blue)
            slot.unlink(missing_ok=True)


def test_an_instance_that_recover_starts_and_nothing_proves_is_no_success() -> None:
    with an_instance_to_recover("/bin/sleep 600") as blue:
        done = bb("recover", check=False)
        assert 21 == done.returncode, done.stdout + done.stderr
        assert f"{blue}: did not run, started" in done.stdout
        assert f"site:    still on {current()}" in done.stderr
        assert f"; recovered: {blue}: did not run, started" in done.stderr
        assert f"error: not-healthy\n  nothing proves which release {blue} runs" in done.stderr
        assert f"start {blue} through {ROOT}/slots/blue/venv/bin/" in done.stderr
        sh("systemctl", "stop", blue)
        restarted = bb("restart", check=False)  # its own repair starts it too, and stops nothing that may mend it
        assert f"warning: nothing proves which release {blue} runs" in restarted.stdout + restarted.stderr


def test_an_instance_that_recover_starts_and_that_ends_is_told_with_its_last_words() -> None:
    with an_instance_to_recover("/bin/sh -c 'echo it gives up; sleep 1.5; exit 1'") as blue:
        ended = bb("recover", check=False)
        told = bb("restart", WEB, check=False)
    assert 21 == ended.returncode, ended.stdout + ended.stderr
    assert f"{blue} does not run: " in ended.stderr
    assert "it gives up" in ended.stderr
    said = told.stdout + told.stderr
    assert f"warning: {blue} does not run: " in said
    assert "it gives up" in said


def test_a_start_beside_that_nobody_asks_anything_is_told() -> None:
    told = f"{CRON} is started beside itself"
    with template("/bin/sleep 600"):
        text = FILE.read_text()
        asked = text.replace('handover = "blue-green"', f'handover = "blue-green", socket = "{ROOT}/shared/cron.sock"')
        assert text != asked
        FILE.write_text(asked)
        assert f"{told}: no request waits or fails" in bb("check", check=False).stdout
        FILE.write_text(asked.partition("[health]")[0])
        assert f"{told}, and serves before anybody has asked it anything" in bb("check", check=False).stdout


def test_what_a_restart_without_a_socket_costs_is_told() -> None:
    FILE.write_text(CONFIG.replace(f'name = "{WEB}"', f'name = "{WEB}", handover = "restart"'))
    try:
        ((text, do),) = warned().items()
    finally:
        configure()
    assert f"requests fail while {WEB} restarts: at each deploy, all that come from its stop until it listens" in text
    assert do.startswith("give it a socket unit (bb-release units shows one)")


def test_a_service_that_listens_by_itself_while_its_socket_does_not_is_told() -> None:
    ours = (SYSTEM / WEB).read_text()
    alone = ours.replace(f"Requires={SOCKET}\n", "").replace("/gunicorn ", f"/gunicorn --bind 127.0.0.1:{free_port()} ")
    assert ours != alone
    (SYSTEM / WEB).write_text(alone)
    sh("systemctl", "daemon-reload")
    sh("systemctl", "stop", WEB, SOCKET)
    sh("systemctl", "start", WEB)
    live = current()
    try:
        (text,) = [text for text in warned() if SOCKET in text]
        assert text.startswith(f"{WEB} runs, but nothing listens on its socket unit {SOCKET}: requests fail while")
        remedy = f"once: sudo systemctl stop {WEB}, then sudo systemctl start {SOCKET}"
        assert remedy == warned()[text]
        FILE.write_text('shared_files = ["not-there"]\n' + CONFIG)  # ends after it has asked, before it does anything
        note("told, and not built")
        done = bb("deploy", check=False)
        assert (1, live) == (done.returncode, current()), done.stdout + done.stderr
        assert f"nothing listens on its socket unit {SOCKET}: requests fail while it restarts; {remedy}" in (
            done.stdout + done.stderr
        )
        planned = bb("deploy", "--plan", check=False).stdout
        assert f"  warning:      {WEB} runs, but nothing listens on its socket unit {SOCKET}: " in planned, planned
        configure()
        bb("deploy", "--build-only")
        built = ROOT / "releases" / max(releases())
        (built / "venv").rename(built / "venv.away")  # it ends after it has asked
        done = bb("switch", built.name, check=False)
        assert (1, live) == (done.returncode, current()), done.stdout + done.stderr
        assert f"warning: {WEB} runs, but nothing listens on its socket unit {SOCKET}: " in done.stdout + done.stderr
        shutil.rmtree(built)
    finally:
        configure()
        (SYSTEM / WEB).write_text(ours)
        sh("systemctl", "daemon-reload")
        sh("systemctl", "stop", WEB)
        sh("systemctl", "start", SOCKET)
        bb("restart")
    assert {} == warned()


def test_a_process_that_shows_nothing_counts_where_it_was_proven_or_was_started_since_the_link_was_moved() -> None:
    """It is another user's, and its words name `current`: which run of the unit it is, and when, is what is left."""
    beat, link = UNITS[2], ROOT / "current"

    def told() -> tuple[int, str, str]:
        done = bb("status", "--json", check=False)
        (unit,) = [unit for unit in json.loads(done.stdout)["units"] if unit["name"] == beat]
        return done.returncode, unit["proof"], unit["unproven"]

    start = f"{link}/venv/bin/python -c 'import time; time.sleep(600)'"
    with dropped_in(beat, f"[Service]\nExecStart=\nExecStart={start}\n"):
        bb("restart", beat)
        assert (0, "its start through the link", "") == told()
        sh("ln", "-sfn", os.readlink(link), link, user="deploy")
        assert (0, "its start through the link", "") == told()  # that run was proven, whatever the link's time is
        sh("systemctl", "restart", beat)
        assert (0, "its start through the link", "") == told()  # through the link as it is
        sh("ln", "-sfn", os.readlink(link), link, user="deploy")
        assert (1, "", f"{beat} was not seen to be started since {current()} is live") == told()
        bb("restart", beat)
        assert (0, "its start through the link", "") == told()
    bb("restart", beat)


def test_lines_that_systemd_has_not_read_yet_are_told() -> None:
    ours = (SYSTEM / WORKER).read_text()
    (SYSTEM / WORKER).write_text(f"{ours}\n[Service]\nKillMode=process\n")
    try:
        ((text, do),) = warned().items()
    finally:
        (SYSTEM / WORKER).write_text(ours)
        sh("systemctl", "daemon-reload")
    assert text.startswith(f"{WORKER} was changed since systemd read it")
    assert "sudo systemctl daemon-reload" == do


def test_a_socket_that_drops_who_waits_is_told() -> None:
    with dropped_in(SOCKET, "[Socket]\nFlushPending=yes\n"):
        ((text, do),) = warned().items()
    assert text.startswith(f"{SOCKET} has FlushPending=yes: whoever waits while {WEB} restarts is dropped")
    assert do == f"sudo systemctl edit --full {SOCKET}   # take FlushPending= out"


def test_all_hardening_under_which_sudo_cannot_work_is_told_until_polkit_allows_it() -> None:
    agent = "bb-release@broken_brackets.service"
    for line in ("SystemCallFilter=@system-service", "RestrictAddressFamilies=AF_UNIX AF_INET", "RestrictNamespaces=yes",
                 "RestrictNamespaces=net ipc", "SystemCallArchitectures=native", "SystemCallLog=@debug"):  # fmt: skip
        with dropped_in(agent, f"[Service]\n{line}\n"):
            (text,) = warned()
            assert text.startswith(f"{agent} has {line.partition('=')[0]}=, under which sudo cannot work"), line
    with dropped_in(agent, "[Service]\nSystemCallFilter=@system-service\n"):
        rule = POLKIT.with_name("50-bb-release-broken_brackets.rules")
        shutil.copy(PROJECT / "systemd" / rule.name, rule)
        try:
            deadline = time.monotonic() + 20  # polkitd watches the folder
            while (found := warned()) and time.monotonic() < deadline:
                time.sleep(0.2)
            assert {} == found
            by_root = sh(AGENT, "check", check=False)
            assert "under which sudo cannot work" not in by_root.stdout
            rule.write_text("// another\n")
            assert "under which sudo cannot work" in sh(AGENT, "check", check=False).stdout
        finally:
            rule.unlink()


def test_a_release_that_takes_its_socket_down_with_it_is_switched_back_and_the_socket_listens_again() -> None:
    """Past its start limit systemd lets the socket unit fail with the service: nobody would be waited for any more."""
    live, states, ours = current(), set(), (SYSTEM / WEB).read_text()
    (SYSTEM / WEB).write_text(ours.replace(f"Requires={SOCKET}\n", ""))  # else systemd itself would start the socket
    (REPOSITORY / "gunicorn.conf.py").write_text(
        "import os, threading, time\n"
        "def when_ready(server):\n    threading.Timer(2, os._exit, (3,)).start()\n"
        "def post_fork(server, worker):\n    time.sleep(60)\n"
    )
    commit("it says that it is ready, and dies before it has answered")
    last = CONFIG.replace(toml(UNITS), toml((*UNITS[1:], WEB)))  # it is up when all are, and dies while it is asked
    FILE.write_text(last.replace("[health]", "[health]\ntimeout_seconds = 20"))
    over = threading.Event()

    def visit() -> None:
        while not over.wait(0.1):
            states.add(prop(SOCKET, "ActiveState"))
            with suppress(OSError), socket.socket(socket.AF_UNIX) as visitor:
                visitor.connect("/run/broken_brackets/web.sock")

    visitors = threading.Thread(target=visit)
    try:
        with dropped_in(WEB, "[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=2\n[Service]\nRestartSec=100ms\n"):
            sh("systemctl", "reset-failed", WEB)  # the starts before count too
            visitors.start()
            done = bb("deploy", check=False)
    finally:
        over.set()
        visitors.join()
        (REPOSITORY / "gunicorn.conf.py").unlink()
        commit("it lives again")
        configure()
        (SYSTEM / WEB).write_text(ours)
        sh("systemctl", "daemon-reload")

    assert done.returncode == 20, done.stdout + done.stderr
    assert "failed" in states
    assert live == current() == answering()["release"]
    assert "active" == prop(SOCKET, "ActiveState")


def test_who_may_not_read_the_journal_is_told_so_by_check_and_by_the_error_that_has_no_lines() -> None:
    tasks = REPOSITORY / "brackets/tasks.py"
    good = tasks.read_text()
    tasks.write_text(f"{good}\nimport sys\n\nif 'worker' in sys.argv:\n    raise SystemExit('the worker gives up')\n")
    commit("a worker that ends at once")
    sh("gpasswd", "-d", "deploy", "systemd-journal")
    try:
        ((text, do),) = warned().items()
        closed = bb("deploy", check=False)
        bb("unhold")
        sh(*do.split()[1:])
        assert {} == warned()
        opened = bb("deploy", "--force", check=False)
    finally:
        sh("usermod", "-aG", "systemd-journal", "deploy")
        tasks.write_text(good)
        commit("it works again")

    assert text.startswith("deploy may not read the journal: an error cannot show the last lines")
    assert (20, 20) == (closed.returncode, opened.returncode), closed.stderr + opened.stderr
    assert "the worker gives up" not in closed.stderr
    assert f"no line of its own can be read here: sudo journalctl -u {WORKER}; " in closed.stderr
    assert "read the unit's own lines above" in opened.stderr
    assert "the worker gives up" in opened.stderr
