"""What counts as proof that a unit runs the release."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from example_site import Site, unprivileged

UNIT = """
[[units]]
name = "{name}"
kind = "command"
restart = {restart}
status = {status}
settle_seconds = 0
"""


@contextmanager
def one_more_unit(site: Site, text: str) -> Iterator[None]:
    settings = dict(site.settings)
    try:
        site.write_config(**{"[run]": text})
        yield
    finally:
        site.settings.clear()
        site.settings.update(settings)
        site.write_config()
        site.own()


@contextmanager
def process(*argv: str, cwd: str = "/", **env: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, **unprivileged())
    time.sleep(0.3)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def unit(name: str, *, restart: list[str], status: list[str]) -> str:
    return UNIT.format(name=name, restart=json.dumps(restart), status=json.dumps(status))


def started_by(site: Site, command: str) -> str:
    """A unit of one's own that `restart` starts in the background, remembered in a file."""
    pid = site.folder / "more.pid"
    start = f"kill -9 $(cat {pid}) 2>/dev/null; {command} >/dev/null 2>&1 & echo $! >{pid}"
    runs = f"readlink /proc/$(cat {pid})/cwd >&2"  # `kill -0` would find one that has ended and was not waited for
    return unit("more", restart=["sh", "-c", start], status=["sh", "-c", f"{runs} && cat {pid}"])


def end_more(site: Site) -> None:
    os.kill(int((site.folder / "more.pid").read_text()), 9)


def end_worker(site: Site) -> None:
    """Its pool ends with it."""
    pid = int((site.folder / "more.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.1)


def restarted_with(site: Site, text: str, end: Callable[[Site], None]) -> subprocess.CompletedProcess[str]:
    """What `restart` says with one more unit, which is ended afterwards."""
    with one_more_unit(site, text):
        try:
            return site.run("restart")
        finally:
            end(site)


def units(site: Site) -> dict[str, str]:
    return {row["name"]: row["proof"] for row in json.loads(site.ok("status", "--json"))["units"]}


def test_a_restart_that_restarts_nothing_is_found_out(live_site: Site) -> None:
    with process("sleep", "300", PATH="/usr/bin:/bin") as stubborn:
        status = ["sh", "-c", f"kill -0 {stubborn.pid} && echo {stubborn.pid}"]
        with one_more_unit(live_site, unit("stubborn", restart=["true"], status=status)):
            done = live_site.run("restart")
        assert done.returncode == 21
        assert "error: not-healthy" in done.stderr
        assert f"its main process is still the one from before ({stubborn.pid})" in done.stderr
    live_site.ok("restart")


def test_a_process_from_before_the_order_to_start_is_found_out(live_site: Site) -> None:
    """The unit has another main process than before, which is no new one either."""
    env = {"PATH": "/usr/bin:/bin"}
    with process("sleep", "300", **env) as first, process("sleep", "300", **env) as second:
        pid = live_site.private("other.pid", str(first.pid))
        text = unit("other", restart=["sh", "-c", f"echo {second.pid} >{pid}"], status=["cat", str(pid)])
        with one_more_unit(live_site, text):
            done = live_site.run("restart")
    assert done.returncode == 21, done.stdout + done.stderr
    assert f"process {second.pid} of other was started before other was told to start" in done.stderr
    assert "see that stopping other ends all of its processes" in done.stderr
    live_site.ok("restart")


def test_the_processes_of_the_release_prove_it_and_status_says_so(live_site: Site) -> None:
    live_site.edit("NOTE", "a release to prove")
    live_site.ok("deploy")
    assert {"web": "its processes"} == units(live_site)
    assert re.search(r"web: RUNNING, process \d+, proven by its processes\n", live_site.ok("status"))


def test_a_main_process_outside_of_the_release_is_no_proof(live_site: Site) -> None:
    done = restarted_with(live_site, started_by(live_site, "cd /; exec sleep 300"), end_more)
    assert done.returncode == 21, done.stdout + done.stderr
    assert "does not have its working folder in release" in done.stderr
    assert f"{live_site.root}/current/release.env" in done.stderr


def test_a_unit_that_ends_while_it_is_being_proven_is_told_as_one_that_ended(live_site: Site) -> None:
    done = restarted_with(live_site, started_by(live_site, "cd /; exec sleep 2.5"), lambda _: None)
    assert done.returncode == 21, done.stdout + done.stderr
    assert "more does not run: " in done.stderr
    assert "more ends when it is started from the new release" in done.stderr


def test_a_main_process_in_the_folder_of_the_release_that_names_it_nowhere_is_no_proof(live_site: Site) -> None:
    command = f"cd {live_site.root}/current/app; exec sleep 300"
    done = restarted_with(live_site, started_by(live_site, command), end_more)
    assert done.returncode == 21, done.stdout + done.stderr
    assert re.search(r"the main process of more \(\d+\) names no release", done.stderr)


def test_a_main_process_that_reads_the_release_s_environment_is_proof(live_site: Site) -> None:
    command = f"cd {live_site.root}/current/app; set -a; . ../release.env; exec sleep 300"
    with one_more_unit(live_site, started_by(live_site, command)):
        try:
            live_site.ok("restart")
            assert {"web": "its processes", "more": "its processes"} == units(live_site)
        finally:
            end_more(live_site)
    live_site.ok("restart")


DYING = "import sys, time\nif 'worker' in sys.argv:\n    time.sleep(4)\n    sys.exit('the worker cannot go on')\n"
APPLICATION = "from celery import Celery\napp = Celery(broker='memory://')\n"


def test_a_worker_that_ends_while_it_still_imports_is_found_out_and_one_with_a_pool_is_well(live_site: Site) -> None:
    modules = live_site.folder / "modules"
    modules.mkdir()
    (modules / "tired.py").write_text(DYING + APPLICATION)
    (modules / "rested.py").write_text(APPLICATION)

    def command(name: str) -> str:
        return (
            f"cd $(readlink -f {live_site.root}/current)/app; set -a; . ../release.env; PYTHONPATH={modules};"
            f" exec ../venv/bin/celery -A {name} worker --concurrency 1"
        )

    for through in ("", "sh -c '"):  # a shell in between has a child, and is no worker with a pool
        own = command("tired")
        if through:
            own = own.replace("exec ", through) + "; :'"
        with one_more_unit(live_site, started_by(live_site, own)):
            done = live_site.run("restart")
        assert done.returncode == 21, done.stdout + done.stderr
        assert "error: not-healthy\n  more " in done.stderr

    with one_more_unit(live_site, started_by(live_site, command("rested"))):
        try:
            live_site.ok("restart")
            assert {"web": "its processes", "more": "its processes"} == units(live_site)
        finally:
            end_worker(live_site)
    live_site.ok("restart")


def test_a_worker_that_is_up_and_answers_nobody_is_not_well(live_site: Site) -> None:
    """Its broker is its own memory, where no other process can ask."""
    own = (
        f"set -a; . {live_site.root}/shared/site.env; cd $(readlink -f {live_site.root}/current)/app; . ../release.env;"
        " exec ../venv/bin/celery -A broken_brackets worker --concurrency 1"
    )
    done = restarted_with(live_site, started_by(live_site, own) + 'celery = "broken_brackets"\n', end_worker)
    assert done.returncode == 21, done.stdout + done.stderr
    assert "error: not-healthy\n  the worker of more does not answer within 60 s" in done.stderr
    assert "no worker answers" in done.stderr
    live_site.ok("restart")


def test_a_process_that_still_runs_from_the_release_before_is_switched_back(live_site: Site) -> None:
    old = live_site.current()
    # what a reload, or a chdir in gunicorn's own configuration, leads to: the folder of another release
    live_site.edit("gunicorn.conf.py", f'chdir = "{live_site.root}/releases/{old}/app"\n')
    try:
        done = live_site.deploy()
    finally:
        live_site.git("rm", "-q", "gunicorn.conf.py")
        live_site.edit("NOTE", "without a chdir")
    assert done.returncode == 20, done.stdout + done.stderr
    assert re.search(rf"process \d+ of web runs from release {old}, not from \d", done.stderr), done.stderr
    assert old == live_site.current() == live_site.answering()["release"]
    live_site.ok("unhold")
    live_site.ok("deploy")


def why_kept(site: Site, name: str) -> str:
    return next(row["reason"] for row in json.loads(site.ok("prune", "--dry-run", "--json")) if row["release"] == name)


def test_a_process_left_on_an_old_release_is_named_and_that_release_is_kept(live_site: Site) -> None:
    old = live_site.current()
    with one_more_unit(live_site, ""):
        live_site.write_config(keep="1")
        with process("sleep", "300", cwd=f"{live_site.root}/releases/{old}/app") as left:
            for number in range(2):
                live_site.edit("NOTE", f"{number} after the one that is still used")
                said = live_site.ok("deploy")
            assert f"process {left.pid} (sleep) still uses release {old}, which is kept for it" in said
            assert "a process still uses it" == why_kept(live_site, old)
        assert "a process still uses it" != why_kept(live_site, old)


def test_a_command_unit_that_names_no_process_is_refused_before_anything_is_built(live_site: Site) -> None:
    live_site.edit("NOTE", "for a unit that names no process")
    before = live_site.states()
    with one_more_unit(live_site, unit("mute", restart=["true"], status=["true"])):
        done = live_site.deploy()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: preflight-failed" in done.stderr
    assert "let `status` print the id of the unit's main process" in done.stderr
    assert before == live_site.states()


def test_copies_of_the_interpreter_name_the_release_by_the_program_itself(live_site: Site) -> None:
    with one_more_unit(live_site, ""):
        live_site.write_config(copies="true")
        live_site.ok("deploy")
        facts = json.loads(live_site.ok("status", "--json"))
        program = os.readlink(f"/proc/{facts['units'][0]['pid']}/exe")
        assert program.startswith(f"{live_site.root}/releases/{facts['release']}/venv/bin/")
        assert "copies = true: the distribution's updates" in live_site.run("check").stdout
    assert shlex.quote(live_site.current()) == facts["release"]
