"""The way to a supervisord, and what its answers have to be like before anything of them is believed."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from collections.abc import Mapping
from typing import Any

# what xmlrpc.client raises of XML that is none of XML-RPC (a struct without names, an int that is no number)
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_NAMES: dict[str, type] = {"group": str, "name": str}
PROCESS = {**_NAMES, "pid": int, "start": int, "statename": str, "spawnerr": str}
RESULT = {**_NAMES, "status": int, "description": str}
COMMAND = {**_NAMES, "command": str}
CONFIGURED = {**COMMAND, "directory": str, "stopwaitsecs": int, "killasgroup": bool}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Transport(xmlrpc.client.Transport):
    """Connects to a unix socket (`path`), or, where it is empty, to the address itself; with a time limit."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # get_host_info takes a name and password out of the address and makes them a header
        address, self._extra_headers, _ = self.get_host_info(host)
        if self._path:
            return _UnixConnection(self._path, self._timeout)
        return http.client.HTTPConnection(address, timeout=self._timeout)


def fits(facts: object, kinds: Mapping[str, type]) -> bool:
    """Whether the facts of a program are there, each of its kind; a process's id is never below 0."""
    if not isinstance(facts, dict):
        return False
    return all(type(facts.get(name)) is kind for name, kind in kinds.items()) and facts.get("pid", 0) >= 0
