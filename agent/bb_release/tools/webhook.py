"""Tells a web address what happened: one POST of JSON, as chat rooms and monitors take it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from bb_release.tools.http_line import ended_after

LOCAL = ("localhost", "127.0.0.1", "::1")


class NotTold(Exception):
    """The address did not take it. The text says why, and never holds the address: it is often a secret."""


def post(url: str, facts: Mapping[str, object], *, timeout_seconds: float) -> None:
    """Send the facts. https anywhere, http to this host only; no redirect is followed. Raises NotTold."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise NotTold("the address of the webhook cannot be read") from None
    connection: http.client.HTTPConnection
    if parts.scheme == "https" and host:
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_seconds)
    elif parts.scheme == "http" and host in LOCAL:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    else:
        raise NotTold("the address of the webhook should begin with https://")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        body = json.dumps(facts).encode()
        connection.connect()
        with ended_after(connection.sock, timeout_seconds):
            connection.request("POST", target, body, {"Content-Type": "application/json", "User-Agent": "bb-release"})
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise NotTold(f"the webhook could not be reached: {reason}") from None
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise NotTold(f"the webhook answered {status}")
