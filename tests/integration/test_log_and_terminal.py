"""What a run writes while signals come, and where a terminal, or a descriptor, is not as it should be."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bb_release.progress import Progress
from bb_release.terminal import MOST_FRAMES, Terminal

SIGNALS = """
import pathlib, signal, sys, time
from bb_release.log import RunLog

log = RunLog(pathlib.Path(sys.argv[1]))
told = []
signal.signal(signal.SIGALRM, lambda number, frame: (told.append(1), log.say("a signal has come")))
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
end = time.monotonic() + 2
while time.monotonic() < end:
    log.line("a line of a program that says much")
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(told))
"""


def test_a_signal_that_comes_while_a_line_is_written_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALS, tmp_path / "log"], capture_output=True, text=True, timeout=60
    )  # a lock that the handler waits for, and holds itself, would be the end of it
    assert int(done.stdout) > 20, done.stderr
    assert (tmp_path / "log").read_text().count("a signal has come") == int(done.stdout)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_an_expected_failure_keeps_its_exit_code_where_nothing_can_be_said(closed: str) -> None:
    words = f'exec "$0" -m bb_release -a nosuchapp status {closed}'
    done = subprocess.run(["sh", "-c", words, sys.executable], capture_output=True, text=True, timeout=60)
    assert (2, False) == (done.returncode, "Traceback" in done.stdout + done.stderr)


class Still(io.StringIO):
    """A terminal that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.moves = threading.Event()

    def write(self, text: str) -> int:
        self.moves.wait(30)
        return super().write(text)


def test_only_the_main_thread_takes_the_signals_that_interrupt_a_run() -> None:
    """After a stop the kernel may give one to any thread that does not block it, and the run goes on into another step."""
    before = {thread.native_id for thread in threading.enumerate()}
    terminal = Terminal(io.StringIO())
    progress = Progress(terminal)
    progress.show("migrate")
    try:
        masks = {
            thread.name: int(
                re.findall(r"SigBlk:\s*(\w+)", Path(f"/proc/self/task/{thread.native_id}/status").read_text())[0], 16
            )
            for thread in threading.enumerate()
            if thread.native_id not in before
        }
    finally:
        progress.clear()
        terminal.close()
    interrupting = 1 << (signal.SIGINT - 1) | 1 << (signal.SIGTERM - 1)
    assert len(masks) == 2, masks
    assert all(mask & interrupting == interrupting for mask in masks.values()), masks


def test_a_terminal_that_stood_still_for_long_has_lost_frames_and_no_line() -> None:
    stream = Still()
    terminal = Terminal(stream)
    frames = threading.Thread(target=lambda: [terminal.write("frame\n") for _ in range(10 * MOST_FRAMES)])
    frames.start()
    frames.join()
    for number in range(10 * MOST_FRAMES):
        terminal.write(f"line {number}\n")
    stream.moves.set()
    terminal.close()
    shown = stream.getvalue().splitlines()
    assert [f"line {number}" for number in range(10 * MOST_FRAMES)] == [line for line in shown if line != "frame"]
    assert 0 < shown.count("frame") <= MOST_FRAMES + 2
