"""The terminal of a run, written to by a thread of its own.

A terminal that nobody reads (Ctrl-S, a laptop asleep at the other end of ssh) takes no more bytes and reports no error:
who writes to it waits, for hours, and a run that waits keeps the lock. So a run hands its lines over and goes on; what
is left of them is written when the lock is free again.
"""

from __future__ import annotations

import io
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TextIO

from bb_release.tools.signals import undisturbed

MOST_FRAMES = 50  # of the progress, which another thread paints; lines always wait until the terminal moves


class Terminal:
    """As much of a text stream as print and rich want. Nothing here waits but `close`."""

    def __init__(self, stream: TextIO) -> None:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 still shows the rest of a line
        self._stream = stream
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        self._written: SimpleQueue[bool] = SimpleQueue()  # its put may come from a signal, in the middle of the get
        self._is_gone = self._is_waited_for = False
        self._thread = threading.Thread(target=self._write_all, name="terminal", daemon=True)
        with undisturbed():
            self._thread.start()

    def write(self, text: str) -> int:
        """Hand over; dropped where the terminal is gone, and a frame where it stands still."""
        is_frame = threading.current_thread() is not threading.main_thread()
        if not self._is_gone and not (is_frame and self._waiting.qsize() > MOST_FRAMES):
            self._waiting.put(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept here: the thread flushes each line."""

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        """Wait until all is written, or the terminal is gone. To be called without the lock.

        A signal ends the waiting, by `let_go`: what became of the run stands.
        """
        self._waiting.put(None)
        self._is_waited_for = True
        is_written = False
        with suppress(KeyboardInterrupt):  # of a run that never began
            is_written = self._written.get()
        if not is_written:
            sys.stdout = None  # the thread has it, and who flushed it would wait for the terminal after all

    def let_go(self) -> None:
        """Wait no longer, where `close` waits. May be called by a signal's handler."""
        if self._is_waited_for:
            self._written.put(False)

    def _write_all(self) -> None:
        try:
            while (text := self._waiting.get()) is not None:
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError):  # hung up (EIO), or a pipe without a reader
            self._is_gone = True
        finally:
            self._written.put(True)
