"""What the standard library's HTTP client has not: unix sockets, and a time limit for the whole of a conversation."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer


_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: struct ucred of unix(7)


class UnixConnection(http.client.HTTPConnection):
    """A connection to the socket at `path`; `timeout` in seconds for each read and write."""

    line: UnixLine | None = None

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.line = self.sock = UnixLine(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


class UnixLine(socket.socket):
    """A connection that says which process has sent what it received last: the kernel tells it, whosever that is.

    unix(7), SO_PASSCRED; what SO_PEERCRED tells is who opened the socket for all, as gunicorn's main process does.
    """

    sender = 0  # 0: it is not known, or has no number here

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        into = memoryview(buffer)[: nbytes or None]
        count, told, _, _ = self.recvmsg_into([into], socket.CMSG_SPACE(_CREDENTIALS.size), flags)
        for level, kind, value in told if count else ():  # its end is nobody's
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(value) == _CREDENTIALS.size:
                self.sender = _CREDENTIALS.unpack(value)[0]
        return count


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
