"""Asks the site whether it is well, over http, https or http on a unix socket. Follows no redirect."""

from __future__ import annotations

import http.client
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from bb_release.errors import ConfigurationInvalid, NotHealthy, shortened
from bb_release.tools.http_line import UnixConnection, ended_after

BODY_BYTES = 64 * 1024
UNIX = "http+unix://"
REDIRECTS = (301, 302, 303, 307, 308)
SHOWN_LINES = 10
SHOWN_COLUMNS = 300


class NoAnswer(OSError):
    """The site gave no answer that can be read; the text says why."""


@dataclass(frozen=True)
class Answer:
    """What the site answered. `body` is at most its first 64 KB; names in `headers` are in lower case."""

    status: int
    body: str
    headers: dict[str, str]
    by: int = 0  # the process that answered, over a unix socket; 0 where that is not known


@dataclass(frozen=True)
class Well:
    """An answer that was all that is wanted."""

    line: str  # such as "200 in 12 ms"
    by: int  # as in Answer


def check_url(url: str) -> None:
    """Raise ConfigurationInvalid for an address that `ask` cannot ask."""
    try:
        _connection(url, 1.0)
    except ValueError as error:
        raise ConfigurationInvalid(
            f'the health address "{url}" cannot be used: {error}',
            remedy="write http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or http+unix:///SOCKET:/PATH",
        ) from error


def ask(url: str, *, headers: Mapping[str, str], timeout_seconds: float) -> Answer:
    """Send one GET. `timeout_seconds` is for the whole of it, also when bytes come slowly.

    Raises NoAnswer: a bad address, refused, not in time, a bad certificate, or no HTTP.
    """
    deadline = time.monotonic() + timeout_seconds
    late = f"no answer within {timeout_seconds:g} s"
    expired = threading.Event()
    connection: http.client.HTTPConnection | None = None
    try:
        connection, target = _connection(url, timeout_seconds)
        connection.connect()
        with ended_after(connection.sock, deadline - time.monotonic()) as expired:
            sent = {"User-Agent": "bb-release", "Connection": "close", **headers}
            connection.request("GET", target, headers=sent)
            response = connection.getresponse()
            body = response.read(BODY_BYTES)
        named = {name.lower(): value for name, value in response.getheaders()}
    except (OSError, ValueError, http.client.HTTPException) as error:
        if expired.is_set() or isinstance(error, TimeoutError):
            raise NoAnswer(late) from error
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoAnswer(reason) from error
    finally:
        if connection is not None:
            connection.close()
    if expired.is_set():
        raise NoAnswer(late)
    line = connection.line if isinstance(connection, UnixConnection) else None
    return Answer(response.status, body.decode("utf-8", "replace"), named, by=line.sender if line else 0)


def wait_healthy(
    url: str,
    *,
    expect: int,
    headers: Mapping[str, str],
    body: str,
    release_where: str,
    release: str,
    timeout_seconds: float,
    interval_seconds: float,
) -> Well:
    """Ask until the site is well.

    Well is: status `expect`, `body` contained (empty: any), and, when `release_where` is "header:NAME" or
    "body", the name of the release there. `timeout_seconds` is for all attempts, `interval_seconds` between.
    Raises NotHealthy with the last answer.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        began = time.monotonic()
        try:
            answer = ask(url, headers=headers, timeout_seconds=max(0.1, deadline - began))
        except NoAnswer as error:
            failure = NotHealthy(
                f"the site gave no answer at {url}: {error}",
                remedy="does the unit run, and does it listen at this address? See the unit's log",
            )
        else:
            took = time.monotonic() - began
            problem = problem_of(answer, url, expect, body, release_where, release)
            if problem is None:
                return Well(f"{answer.status} in {took * 1000:.0f} ms", answer.by)
            failure = problem
        if time.monotonic() + interval_seconds >= deadline:
            raise failure
        time.sleep(interval_seconds)


def problem_of(answer: Answer, url: str, expect: int, body: str, release_where: str, release: str) -> NotHealthy | None:
    """What is wrong with an answer, or None. The parameters are those of `wait_healthy`."""
    shown = "\n".join(shortened(line, SHOWN_COLUMNS) for line in answer.body.splitlines()[:SHOWN_LINES])
    if answer.status != expect:
        message = f"the site answered {answer.status} at {url} (wanted {expect})"
        remedy = "see the site's own log for the error behind this answer"
        if answer.status in REDIRECTS:
            message += f", a redirect to {answer.headers.get('location', 'nowhere')}"
            remedy = 'add to the health headers X-Forwarded-Proto = "https" and Host = the site\'s own name'
        elif answer.status == 400:
            remedy = "add to the health headers Host = a name that is in the site's ALLOWED_HOSTS"
        return NotHealthy(message, remedy=remedy, details=shown)
    if body and body not in answer.body:
        return NotHealthy(
            f'the site answered {answer.status} at {url}, but without the text "{body}"',
            remedy="see the first lines of the answer; is `body` of the health check still right?",
            details=shown,
        )
    kind, _, name = release_where.partition(":")
    if not kind:
        return None
    where = answer.body if kind == "body" else answer.headers.get(name.lower(), "")
    # as a whole word: the name of one release may be the beginning of another's
    if re.search(rf"(?<![\w-]){re.escape(release)}(?![\w-])", where):
        return None
    found = "in its body" if kind == "body" else f'in its header {name} ("{where}")'
    return NotHealthy(
        f"the site answered {answer.status} at {url}, but does not name the release {release} {found}",
        remedy="an older process still answers, or the site does not say its release (BB_RELEASE) there",
        details=shown,
    )


def _connection(url: str, timeout: float) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection, not opened yet, and what to ask it for. Raises ValueError for a bad address."""
    if not url.isprintable() or not url.isascii() or " " in url:
        raise ValueError("it holds a space or a letter that an address must not have")
    if url.startswith(UNIX):
        path, _, target = url.removeprefix(UNIX).partition(":/")
        if not path.startswith("/"):
            raise ValueError("the socket's path must be absolute")
        return UnixConnection(path, timeout), f"/{target}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("it begins with none of http://, https://, http+unix://")
    if not parts.hostname:
        raise ValueError("it names no host")
    if parts.username is not None:
        raise ValueError("it holds a user's name; use the header Authorization")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout), target
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context), target
