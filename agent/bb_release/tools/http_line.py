"""What the standard library's HTTP client has not: unix sockets, and a time limit for the whole of a conversation."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class UnixConnection(http.client.HTTPConnection):
    """A connection to the socket at `path`; `timeout` in seconds for each read and write."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@contextmanager
def ended_after(line: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Shut a connection down when the time is over; the event says that it was.

    A socket's own time limit is per read: who sends a byte now and then would never reach it.
    """
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        with suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)  # not TLS's own, which is not safe from here

    timer = threading.Timer(max(0.0, seconds), expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
