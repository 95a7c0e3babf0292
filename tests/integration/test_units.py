"""Units against a real supervisord, and against small scripts of a site's own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bb_release.errors import ConfigurationInvalid, UnitsNotRestarted
from bb_release.tools import host, process
from bb_release.tools.units import UnitManager, manager_of, properties, rights

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from programs import required

SLEEP = f"{sys.executable} -c 'import sys,time; print(\"well\", file=sys.stderr, flush=True); time.sleep(300)'"
PARENT = f'{sys.executable} -c \'import subprocess; subprocess.run(["sleep", "300"])\''
CRASH = "sh -c 'echo no module named site >&2; exit 1'"  # at once: what lives for a second has started


# a server that finishes what it has begun when it is told to end, as gunicorn does
SERVE = """
import os, select, signal, socket

listening, told = socket.socket(fileno=0), []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
listening.setblocking(False)
while not told:
    if select.select([listening], [], [], 0.05)[0]:
        try:
            client, _ = listening.accept()
        except BlockingIOError:
            continue
        client.setblocking(True)
        client.recv(1)
        client.sendall(str(os.getpid()).encode())
        client.close()
"""


# where it stops a group, supervisord looks whether a limit is over when something happens, else once a second: words
# 0.4 s before the limit have it look 0.6 s after it, and a file tells nobody
LATE = (
    "sh -c 'trap \"sleep 1.5; echo wait; sleep 0.6; touch %(here)s/ended; exit 0\" TERM; while :; do sleep 0.1; done'"
)
DEAF = "sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'"


def program(name: str, command: str, more: str = "") -> str:
    return (
        f"[program:{name}]\ncommand={command}\nautostart=false\nstartsecs=1\nstartretries=0\n"
        f"stopasgroup=true\nkillasgroup=true\n{more}\n"
    )


@dataclass
class Supervisord:
    socket: str

    def unit(self, name: str, **more: float | str) -> UnitManager:
        return manager_of(kind="supervisor", name=name, socket=self.socket, env=process.environment(), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervisord]:
    folder = Path(tempfile.mkdtemp(prefix="bb", dir="/tmp"))  # a unix socket's path must be short
    configuration = folder / "s.conf"
    configuration.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/s.log\npidfile={folder}/s.pid\nchildlogdir={folder}\n"
        f"[unix_http_server]\nfile={folder}/s.sock\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        + program("web", SLEEP)
        + program("parent", PARENT)
        + program("crash", CRASH)
        + program("absent", "/nowhere/gunicorn")
        + program(
            "slow",
            DEAF,
            "stopasgroup=false\nstopwaitsecs=60",
        )
        + program("late", LATE, "stopasgroup=false\nstopwaitsecs=2")
        + program("hasty", DEAF, "stopasgroup=false\nstopwaitsecs=2")
        + program(
            "deaf",
            DEAF,
            f"stopasgroup=false\nstopwaitsecs=2\nsocket=unix://{folder}/deaf.sock\nnumprocs=3\n"
            "process_name=%(program_name)s_%(process_num)02d",
        ).replace("[program:", "[fcgi-program:")
        + program("one", "sleep 300")
        + program("two", "sleep 300")
        + "[group:pair]\nprograms=one,two\n"
        + program(
            "site",
            f"{sys.executable} {folder}/serve.py",
            f"socket=unix://{folder}/web.sock\nnumprocs=2\nprocess_name=%(program_name)s_%(process_num)02d",
        ).replace("[program:", "[fcgi-program:")
        + program(
            "bound",
            f"{sys.executable} {folder}/serve.py gunicorn",
            f"socket=unix://{folder}/bound.sock\nnumprocs=2\nprocess_name=%(program_name)s_%(process_num)02d",
        ).replace("[program:", "[fcgi-program:")
    )
    (folder / "serve.py").write_text(SERVE)
    started = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            if (folder / "s.sock").exists():
                break
            time.sleep(0.05)
        yield Supervisord(str(folder / "s.sock"))
    finally:
        pids = host.process_tree(started.pid)
        started.terminate()
        try:
            started.wait(5)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        for pid in pids:
            if host.alive(pid):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)


def test_supervisor_start_and_restart(supervisord: Supervisord) -> None:
    unit = supervisord.unit("web")
    assert not unit.state().running
    assert unit.state().main_pid == 0
    began = time.time()
    unit.start()
    unit.start()  # a second start of what runs is no failure
    first = unit.state()
    assert first.running
    assert first.summary == "RUNNING"
    assert first.started is not None
    assert abs(first.started - began) < 5
    unit.restart()
    second = unit.state()
    assert second.running
    assert second.main_pid not in (0, first.main_pid)
    assert second.invocation != first.invocation
    assert not host.alive(first.main_pid)
    assert unit.log_lines(1) == ["well"]


def test_supervisor_restart_starts_what_does_not_run(supervisord: Supervisord) -> None:
    unit = supervisord.unit("parent")
    unit.restart()
    assert unit.state().running
    assert len(unit.processes()) == 2
    assert unit.state().main_pid in unit.processes()


def test_supervisor_group(supervisord: Supervisord) -> None:
    unit = supervisord.unit("pair:*")
    unit.restart()
    first = unit.processes()
    assert len(first) == 2
    assert unit.state().running
    unit.restart()
    assert not set(first) & set(unit.processes())
    one = supervisord.unit("pair:one")
    before = one.state().main_pid
    one.restart()
    assert one.state().main_pid != before
    unit.reload()  # HUP ends sleep; that it was sent is what counts


@contextmanager
def asking(path: str) -> Iterator[list[str]]:
    """Ask at a socket without a pause; the answers, "" for each that failed."""
    answers: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                try:
                    client.connect(path)
                    client.sendall(b"?")
                    answers.append(client.recv(20).decode())
                except OSError:
                    answers.append("")
            time.sleep(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()


def test_supervisor_programs_with_one_socket_take_over_from_each_other_and_no_request_fails(
    supervisord: Supervisord,
) -> None:
    unit, web = supervisord.unit("site:*", handover="socket"), supervisord.socket.replace("s.sock", "web.sock")
    unit.check_can("restart")
    unit.start()
    unit.check_can("restart")
    before = unit.processes()
    with asking(web) as answers:
        time.sleep(0.3)
        unit.restart()
        time.sleep(0.3)
    assert 2 == len(unit.processes())
    assert not set(before) & set(unit.processes())
    assert {str(pid) for pid in (*before, *unit.processes())} >= set(answers)
    assert {str(pid) for pid in unit.processes()} & set(answers)
    with asking(web) as answers:
        supervisord.unit("site:*").restart()  # all of them stop: there is no socket meanwhile
    assert "" in answers
    for other in ("pair:*", "web"):
        supervisord.unit(other).restart()
        with pytest.raises(UnitsNotRestarted, match="cannot take over from each other") as refused:
            supervisord.unit(other, handover="socket").check_can("restart")
        assert "[fcgi-program:x]" in refused.value.remedy


def test_supervisor_a_unix_socket_that_gunicorn_would_remove_is_refused(supervisord: Supervisord) -> None:
    unit = supervisord.unit("bound:*", handover="socket")
    unit.start()
    with pytest.raises(UnitsNotRestarted, match="gunicorn removes a unix socket") as refused:
        unit.check_can("restart")
    assert "socket=tcp://127.0.0.1:PORT" in refused.value.remedy


def test_supervisor_crash(supervisord: Supervisord) -> None:
    unit = supervisord.unit("crash")
    for _ in range(2):  # the second time from what the first left behind
        with pytest.raises(UnitsNotRestarted) as raised:
            unit.restart()
        assert "crash" in raised.value.message
        assert "no module named site" in raised.value.details
    assert not unit.state().running


def test_supervisor_command_missing(supervisord: Supervisord) -> None:
    with pytest.raises(UnitsNotRestarted) as raised:
        supervisord.unit("absent").restart()
    assert "command" in raised.value.remedy


@pytest.mark.parametrize("name", ["unknown", "nogroup:*"])
def test_supervisor_bad_name(supervisord: Supervisord, name: str) -> None:
    with pytest.raises(UnitsNotRestarted) as raised:
        supervisord.unit(name).restart()
    assert "supervisorctl status" in raised.value.remedy


def test_supervisor_time_limit(supervisord: Supervisord) -> None:
    supervisord.unit("slow", stop_seconds=30).start()
    unit = supervisord.unit("slow", stop_seconds=2.5)
    pid = unit.state().main_pid
    try:
        began = time.monotonic()
        with pytest.raises(UnitsNotRestarted, match="did not finish"):
            unit.restart()
        assert time.monotonic() - began < 30  # supervisord gives it 60
    finally:
        os.kill(pid, signal.SIGKILL)


def test_supervisor_tells_the_limit_of_a_program_that_had_to_be_killed_and_of_none_that_ended(
    supervisord: Supervisord,
) -> None:
    unit = supervisord.unit("hasty", stop_seconds=20)
    unit.start()
    unit.restart()
    assert 2 == unit.cut_off()

    well = supervisord.unit("web", stop_seconds=20)
    well.start()
    well.restart()
    assert well.cut_off() is None


def test_supervisor_a_program_that_ends_by_itself_just_after_its_limit_was_not_killed(supervisord: Supervisord) -> None:
    ended = Path(supervisord.socket).with_name("ended")
    for _ in range(5):  # on a host that stood still for half a second it is killed after all
        ended.unlink(missing_ok=True)
        unit = supervisord.unit("late:*", stop_seconds=20)  # a new one: it remembers whom it told
        unit.start()
        unit.restart()
        if ended.exists() and unit.cut_off() is None:
            break
    assert ended.exists()
    assert unit.cut_off() is None


def test_supervisor_each_program_that_is_restarted_by_itself_has_its_own_time(supervisord: Supervisord) -> None:
    unit = supervisord.unit("deaf:*", handover="socket", stop_seconds=8)  # each takes 2 s to stop and 1 s to start
    unit.start()
    before = unit.processes()
    unit.restart()
    assert unit.state().running
    assert not set(before) & set(unit.processes())
    assert 2 == unit.cut_off()


def test_supervisor_socket_missing() -> None:
    unit = manager_of(kind="supervisor", name="web", socket="/nowhere/s.sock", env={})
    with pytest.raises(UnitsNotRestarted) as raised:
        unit.restart()
    assert "/nowhere/s.sock" in raised.value.message
    assert "supervisord running" in raised.value.remedy
    assert unit.log_lines() == []


@pytest.mark.parametrize("address", ["", "s.sock", "http://192.0.2.1:9001"])
def test_supervisor_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        manager_of(kind="supervisor", name="web", socket=address, env={})


def test_supervisor_refused_port() -> None:
    unit = manager_of(kind="supervisor", name="web", socket="http://me:secret@127.0.0.1:9", env={})
    with pytest.raises(UnitsNotRestarted) as raised:
        unit.state()
    assert "secret" not in raised.value.message


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_command_unit(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    stop = f'test -f {pid_file} && kill "$(cat {pid_file})"\n'
    start = f"sleep 300 & echo $! > {pid_file}\necho started"
    status = f'kill -0 "$(cat {pid_file})" 2>/dev/null && echo "runs as $(cat {pid_file})"'
    unit = manager_of(
        kind="command",
        name="site",
        commands={
            "start": [script(tmp_path / "start", start)],
            "restart": [script(tmp_path / "restart", stop + start)],
            "status": [script(tmp_path / "status", status)],
        },
        env=process.environment(),
    )
    assert not unit.state().running
    unit.start()
    first = unit.state()
    try:
        assert first.running
        assert first.main_pid == int(pid_file.read_text())
        assert unit.processes() == [first.main_pid]
        unit.restart()
        assert unit.log_lines() == ["started"]
        second = unit.state()
        assert second.main_pid != first.main_pid
        assert second.invocation != first.invocation
        with pytest.raises(ConfigurationInvalid, match="no reload command"):
            unit.reload()
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_command_unit_fails(tmp_path: Path) -> None:
    commands = {"restart": [script(tmp_path / "restart", "echo no such site\nexit 3")], "status": ["true"]}
    unit = manager_of(kind="command", name="site", commands=commands, env=process.environment())
    with pytest.raises(UnitsNotRestarted) as raised:
        unit.restart()
    assert raised.value.details == "no such site"
    assert unit.log_lines() == ["no such site"]
    assert unit.state().running  # a status that names no process
    assert unit.state().main_pid == 0
    assert unit.processes() == []


def test_command_unit_time_limit() -> None:
    commands = {"restart": ["sleep", "60"]}
    unit = manager_of(kind="command", name="x", commands=commands, stop_seconds=0.3, env=process.environment())
    with pytest.raises(UnitsNotRestarted, match="did not end within"):
        unit.restart()


@pytest.mark.parametrize(("kind", "name"), [("upstart", "app"), ("systemd", "--root=/"), ("systemd", "a b")])
def test_bad_units(kind: str, name: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        manager_of(kind=kind, name=name, env={})


def test_the_sudoers_line_names_each_verb_and_unit_and_passes_visudo(tmp_path: Path) -> None:
    line = rights.sudoers("deploy", {"app.service": rights.RESTART, "a:b\\x2dc@1.socket": rights.SOCKET})

    assert line == (
        "deploy ALL=(root) NOPASSWD: /usr/bin/systemctl start app.service, /usr/bin/systemctl restart app.service, "
        "/usr/bin/systemctl reset-failed app.service, /usr/bin/systemctl start a\\:b\\\\x2dc@1.socket, "
        "/usr/bin/systemctl reset-failed a\\:b\\\\x2dc@1.socket"
    )
    visudo = required("visudo", "sudo", "REQUIRE_SUDO")
    (tmp_path / "sudoers").write_text(line + "\n")
    subprocess.run([visudo, "-cf", tmp_path / "sudoers"], check=True, capture_output=True)


def test_the_polkit_rule_allows_what_the_agent_asks_and_no_more() -> None:
    rule = rights.polkit_rule("deploy", {"app.service": rights.RESTART, "nginx.service": rights.RELOAD})
    assert (
        '{"app.service": ["start", "restart", "reset-failed", "try-restart"], "nginx.service": ["reload", "reset-failed"]}'
        in rule
    )
    assert 'subject.user == "deploy"' in rule


# asked before anything is done


def test_supervisor_is_asked_whether_it_knows_the_unit_and_nothing_is_started(supervisord: Supervisord) -> None:
    idle = supervisord.unit("pair:two")
    running = idle.state().running
    idle.check_can("restart")
    assert idle.state().running == running
    with pytest.raises(UnitsNotRestarted, match="BAD_NAME"):
        supervisord.unit("unknown").check_can("restart")
    with pytest.raises(UnitsNotRestarted, match="does not run, so it cannot be reloaded"):
        supervisord.unit("crash").check_can("reload")
    assert idle.stop_command() == f"supervisorctl -s unix://{supervisord.socket} stop pair:two"


def test_a_command_unit_is_asked_whether_its_commands_are_programs_and_none_but_status_runs(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    restart = script(tmp_path / "restart", f"touch {ran}")

    def unit(**commands: list[str]) -> UnitManager:
        return manager_of(kind="command", name="site", commands=commands, env=process.environment())

    unit(restart=[restart], status=["false"]).check_can("restart")  # known, not running yet
    unit(restart=["sleep", "1"], status=["echo", "1"]).check_can("restart")  # found on PATH
    assert not ran.exists()
    with pytest.raises(UnitsNotRestarted, match="not a program: /nowhere/restart"):
        unit(restart=["/nowhere/restart"], status=["true"]).check_can("restart")
    with pytest.raises(UnitsNotRestarted, match="status command"):
        unit(restart=[restart], status=["/nowhere/status"]).check_can("restart")
    Path(restart).chmod(0o644)
    with pytest.raises(UnitsNotRestarted, match="not a program"):
        unit(restart=[restart], status=["true"]).check_can("restart")
    with pytest.raises(ConfigurationInvalid, match="no reload command"):
        unit(restart=[restart], status=["true"]).check_can("reload")


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="only where systemd does not run")
def test_systemd_absent() -> None:
    unit = manager_of(kind="systemd", name="bb-none", env=process.environment())
    with pytest.raises(UnitsNotRestarted) as raised:
        unit.restart()
    assert "systemd" in raised.value.remedy
    assert unit.log_lines() == []


@pytest.mark.parametrize(
    ("span", "expected"),
    [("1min 30s", 90.0), ("500ms", 0.5), ("2h", 7200.0), ("10.500s", 10.5), ("infinity", None), ("", None)],
)
def test_a_time_span_of_systemd_is_read(span: str, expected: float | None) -> None:
    assert expected == properties.seconds(span)


def test_a_command_that_runs_but_names_no_process_cannot_be_proven() -> None:
    commands = {"restart": ("true",), "status": ("true",)}
    unit = manager_of(kind="command", name="mute", commands=commands, env=process.environment())
    with pytest.raises(UnitsNotRestarted, match="names no process"):
        unit.check_can("restart")
    manager_of(
        kind="command", name="down", commands={**commands, "status": ("false",)}, env=process.environment()
    ).check_can("restart")


def test_supervisor_tells_through_which_folder_a_program_starts(supervisord: Supervisord) -> None:
    folder = str(Path(sys.executable).parent)
    assert supervisord.unit("web").starts_through(folder)
    assert not supervisord.unit("pair:*").starts_through(folder)
