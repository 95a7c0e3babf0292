"""What a person at a terminal sees, and what happens when the terminal goes away."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from example_site import Site, unprivileged
from other_settings import configured, run_at

SGR_COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")


@contextmanager
def at_a_terminal(site: Site, *words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the agent on a terminal of its own; yields the process and the terminal's other end."""
    ours, theirs = pty.openpty()
    if os.geteuid() == 0:
        os.fchown(theirs, 65534, 65534)
    try:
        process = subprocess.Popen(
            site.command(*words), cwd="/", stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - it is hung up on like one typed by a person
            env={**site.environment(), "TERM": "xterm-256color", "COLUMNS": "100", **environment}, **unprivileged(),
        )  # fmt: skip
    finally:
        os.close(theirs)
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def everything(terminal: int, seconds: float = 120.0) -> str:
    """All that is shown until the program has ended."""
    seen, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # the last holder of the other end is gone
                break
            seen += chunk
    return seen.decode("utf-8", "replace")


def test_a_terminal_shows_the_step_under_way_and_what_its_program_says(live_site: Site) -> None:
    live_site.edit("NOTE", "its programs\n")
    said = run_at("after-collect-static", "echo said by a program; sleep 1")
    with configured(live_site, **{"[run]": said}), at_a_terminal(live_site, "deploy") as (process, terminal):
        shown = everything(terminal)
        os.close(terminal)
        assert process.wait(30) == 0
    assert re.search(r"install-requirements +0\.\d s", shown)  # while it runs
    assert re.search(r"\r\n|\n", shown)
    assert re.search(r"install-requirements +\d+\.\d s\r\n", shown)  # and when it has ended
    assert "said by a program" in shown  # at the foot, while its step runs
    assert SGR_COLOUR.search(shown)


def test_no_color_is_honoured_and_a_dumb_terminal_gets_plain_lines(live_site: Site) -> None:
    live_site.edit("NOTE", "no colour\n")
    with at_a_terminal(live_site, "deploy", NO_COLOR="1") as (process, terminal):
        shown = everything(terminal)
        os.close(terminal)
        assert process.wait(30) == 0
    assert "install-requirements" in shown
    assert not SGR_COLOUR.search(shown)

    with at_a_terminal(live_site, "restart", TERM="dumb") as (process, terminal):
        shown = everything(terminal)
        os.close(terminal)
        assert process.wait(30) == 0
    assert "\x1b" not in shown


def test_a_terminal_that_goes_away_in_the_middle_takes_nothing_with_it(live_site: Site) -> None:
    live = live_site.current()
    live_site.edit("NOTE", "hung up on\n")
    with at_a_terminal(live_site, "deploy") as (process, terminal):
        seen, deadline = b"", time.monotonic() + 60
        while b"install-requirements" not in seen and time.monotonic() < deadline:
            seen += os.read(terminal, 65536)
        os.close(terminal)  # the kernel sends SIGHUP, and every further write fails
        assert process.wait(120) == 0
    assert live_site.current() > live
    assert "deploy_finished" in live_site.ok("history", "--last", "1")
