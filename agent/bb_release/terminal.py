"""The terminal of a run, written to by a thread of its own.

A terminal that nobody reads (Ctrl-S, a laptop asleep at the other end of ssh) takes no more bytes and reports no error:
who writes to it waits, for hours, and a run that waits keeps the lock. So a run hands its lines over and goes on; what
is left of them is written when the lock is free again.
"""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TextIO

MOST_FRAMES = 50  # of the progress, which another thread paints; lines always wait until the terminal moves


class Terminal:
    """As much of a text stream as print and rich want. Nothing here waits but `close`."""

    def __init__(self, stream: TextIO) -> None:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 still shows the rest of a line
        self._stream = stream
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        self._is_gone = False
        self._thread = threading.Thread(target=self._write_all, name="terminal", daemon=True)
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

        Ctrl-C ends the waiting: what became of the run stands.
        """
        self._waiting.put(None)
        with suppress(KeyboardInterrupt):
            self._thread.join()

    def _write_all(self) -> None:
        while (text := self._waiting.get()) is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # hung up (EIO), or a pipe without a reader
                self._is_gone = True
                return
