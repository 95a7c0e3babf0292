"""The way to a supervisord, and what its answers have to be like before anything of them is believed."""

from __future__ import annotations

import http.client
import xmlrpc.client
from collections.abc import Mapping
from typing import Any

from bb_release.tools.http_line import UnixConnection

MOST_BYTES = 16_000_000  # of one answer; a thousand programs make less than one million
# what xmlrpc.client raises of XML that is none of XML-RPC (a struct without names, an int that is no number)
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_NAMES: dict[str, type] = {"group": str, "name": str}
PROCESS = {**_NAMES, "pid": int, "start": int, "statename": str, "spawnerr": str}
RESULT = {**_NAMES, "status": int, "description": str}
COMMAND = {**_NAMES, "command": str}
CONFIGURED = {**COMMAND, "directory": str, "stopwaitsecs": int, "killasgroup": bool}


class _Bounded:
    """What a response has to say, up to MOST_BYTES; then ValueError, one of MALFORMED."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self._left = MOST_BYTES

    def read(self, size: int) -> bytes:
        content = self._response.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"an answer of more than {MOST_BYTES} bytes")
        return content


class Transport(xmlrpc.client.Transport):
    """Connects to a unix socket (`path`), or, where it is empty, to the address itself; with a time limit."""

    accept_gzip_encoding = False  # a few bytes could become many

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # get_host_info takes a name and password out of the address and makes them a header
        address, self._extra_headers, _ = self.get_host_info(host)
        if self._path:
            return UnixConnection(self._path, self._timeout)
        return http.client.HTTPConnection(address, timeout=self._timeout)

    def parse_response(self, response: Any) -> Any:
        return super().parse_response(_Bounded(response))  # type: ignore[arg-type]  # it only reads


def fits(facts: object, kinds: Mapping[str, type]) -> bool:
    """Whether the facts of a program are there, each of its kind; a process's id is never below 0."""
    if not isinstance(facts, dict):
        return False
    return all(type(facts.get(name)) is kind for name, kind in kinds.items()) and facts.get("pid", 0) >= 0
