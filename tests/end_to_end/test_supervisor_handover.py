"""A group of two programs of a real supervisord, real gunicorn at one socket, and visitors who do not wait."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from example_site import PROJECT, Site, running_site
from other_settings import configured, run_at

VISITORS = PROJECT / "scripts/benchmark/visitors.py"
RATE = 60  # requests a second


class SharedSocket(Site):
    """As the README has it for `handover = "socket"` under Supervisor: supervisord holds the listening socket."""

    startsecs = 1  # so that a test waits for less than the README has one wait

    def __init__(self, folder: Path, *, cache: Path | None = None, worker: bool = False) -> None:
        super().__init__(folder, cache=cache, worker=worker)
        self.units, self.handover = ["web:*"], "socket"
        self.write_config()

    def program_of(self, unit: str) -> str:
        own = super().program_of(unit.removesuffix(":*")).replace(f"--bind {self.bind}", "--threads 4 --bind fd://0")
        own = own.replace("startsecs=1\n", f"startsecs={self.startsecs}\n")
        return own.replace("[program:", "[fcgi-program:") + (
            f"socket=tcp://{self.bind}\nnumprocs=2\nprocess_name=%(program_name)s_%(process_num)d\n"
        )


@pytest.fixture(scope="module")
def shared(cache: Path) -> Iterator[Site]:
    with running_site(cache=cache, kind=SharedSocket) as made:
        made.ok("deploy")
        yield made


@contextmanager
def visited(site: Site) -> Iterator[list[list[object]]]:
    """Requests on a fixed schedule, whether or not the one before was answered; what became of each."""
    visits: list[list[object]] = []
    words = [sys.executable, VISITORS, site.bind, str(RATE), "60"]  # the host itself may stand still
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as visitors:
        try:
            time.sleep(1)
            yield visits
            time.sleep(1)
            said, _ = visitors.communicate(timeout=120)  # which closes its input
            visits += json.loads(said)
        finally:
            visitors.kill()


def failed(visits: list[list[object]]) -> list[object]:
    """What became of those that got no good answer."""
    assert len(visits) > RATE
    return [visit[3] for visit in visits if visit[3] != "200"]


def processes(site: Site) -> set[str]:
    """The main process of each of the two programs, as supervisord knows them."""
    log = (site.folder / "supervisord.log").read_text()
    return {line.rpartition(" ")[2] for line in log.splitlines() if "spawned: 'web_" in line}


def test_no_request_fails_while_gunicorns_at_one_socket_take_over_from_each_other(shared: Site) -> None:
    first = shared.current()
    started = processes(shared)
    assert 2 == len(started)
    shared.second_revision()
    with visited(shared) as visits:
        shared.ok("deploy")
    second = shared.current()
    assert [] == failed(visits)
    assert first != second == shared.answering()["release"]
    started = processes(shared)
    for release in (first, second, first):
        with visited(shared) as visits:
            shared.ok("switch", release)
        assert [] == failed(visits)
        assert release == shared.answering()["release"]
        assert 2 == len(processes(shared) - started)  # both programs, once each
        started = processes(shared)
    with visited(shared) as visits:
        shared.ok("restart")
    assert [] == failed(visits)
    shared.ok("status")


def test_a_release_that_cannot_start_goes_back_and_the_other_program_serves_meanwhile(shared: Site) -> None:
    live = shared.current()
    shared.edit("NOTE", "a release that cannot start\n")
    # it ends at once: what lives for a second has started
    unfit = run_at("after-collect-static", "rm $BB_RELEASE_FOLDER/venv/bin/gunicorn")
    with configured(shared, **{"[run]": unfit}), visited(shared) as visits:
        done = shared.deploy()

    assert 20 == done.returncode, done.stdout + done.stderr
    assert [] == failed(visits)
    assert live == shared.current() == shared.answering()["release"]
    shared.ok("status")


class Patient(SharedSocket):
    startsecs = 10


def test_a_release_that_ends_while_it_is_imported_takes_one_program_down_and_no_request_fails(cache: Path) -> None:
    with running_site(cache=cache, kind=Patient) as site:
        site.ok("deploy")
        live = site.current()
        site.edit("NOTE", "a release that cannot be imported by gunicorn\n")
        text = "import time; time.sleep(3); raise SystemExit(1)"
        unfit = run_at("after-collect-static", f"echo '{text}' > $BB_RELEASE_FOLDER/app/gunicorn.conf.py")
        with configured(site, **{"[run]": unfit}), visited(site) as visits:
            done = site.deploy()
        assert 20 == done.returncode, done.stdout + done.stderr
        assert [] == failed(visits)
        assert live == site.current() == site.answering()["release"]
        log = (site.folder / "supervisord.log").read_text()
        begun = [log.count(f"spawned: 'web_{number}'") for number in range(2)]
        assert 2 == min(begun) < max(begun), "one of the two is begun anew on the way back, and not before"


def test_check_reads_the_programs_as_supervisord_has_them_and_what_their_processes_have(shared: Site) -> None:
    def warned() -> list[tuple[str, str]]:
        facts = json.loads(shared.run("check", "--json").stdout)["facts"]
        return [
            (fact["text"], fact["do"]) for fact in facts if fact["level"] == "warn" and fact["text"].startswith("web:*")
        ]

    told = warned()
    assert 2 == len(told), told  # nothing but that a test does not wait for long
    assert "web:* has startsecs=1: a release that cannot be imported" in told.pop()[0]
    ((text, do),) = told
    assert "web:* has stopwaitsecs=10, less than gunicorn's graceful timeout (30 s" in text
    assert do.startswith(f"supervisorctl -s unix://{shared.socket} update   # once its section in")
    assert do.endswith(" has: stopwaitsecs=45")
    env = shared.root / "shared/site.env"
    before = env.read_text()
    env.write_text(f"{before}LATER=1\n")
    try:
        (text, do) = next(row for row in warned() if "LATER" in row[0])
        assert "web:* runs without LATER, which manage.py gets" in text
        assert do.endswith(" restart web:*")
        shared.ok("restart")
        assert 2 == len(warned())
    finally:
        env.write_text(before)
        shared.ok("restart")


def test_where_all_programs_stop_at_once_requests_fail(shared: Site) -> None:
    shared.handover = "restart"
    shared.write_config()
    try:
        told = shared.run("check").stdout
        with visited(shared) as visits:
            shared.ok("restart")
    finally:
        shared.handover = "socket"
        shared.write_config()
    assert {"ConnectionRefusedError", "ConnectionResetError", "cut off"} & set(failed(visits))
    assert "requests fail while web:* restarts: at each deploy" in told
    assert "the programs of web:* are restarted one after the other: no request fails" in shared.run("check").stdout
