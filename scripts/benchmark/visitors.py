"""Visitors on a fixed schedule, until its input is closed; then what became of each, as JSON on its output.

Run as a program of its own: `visitors.py SOCKET REQUESTS-A-SECOND [SECONDS]`, for a unix socket's path or HOST:PORT,
and the seconds in which an answer has to come.
Nobody waits for an answer before the next one asks (an open loop), and each is counted from the moment at which it was
due: a site that hangs is not asked less often.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from contextlib import suppress
from typing import NamedTuple

MOST_SECONDS = 10.0
REQUEST = b"GET /health/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
OK = "200"


class Visit(NamedTuple):
    """Seconds; `due` by the monotonic clock, which all processes share."""

    due: float
    seconds: float  # from when it was due to the end of the answer
    late: float  # of which it was our own fault: from when it was due to the begin of its connection
    what: str  # the status, or why there is none
    code: str = ""  # the release that the site's code came from, and the one that Django came from
    packages: str = ""


def read_answer(answer: bytes) -> tuple[str, str, str]:
    """Status, code and packages; an answer that was cut off is none."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if len(first.split()) < 2 or headers.get("content-length") != str(len(body)):
        return "cut off", "", ""
    return first.split()[1], headers.get("x-code", ""), headers.get("x-packages", "")


async def visit(path: str, due: float, most: float) -> Visit:
    late = time.monotonic() - due
    what = code = packages = ""
    writer = None
    try:
        async with asyncio.timeout_at(due + most):  # the loop's clock is the monotonic one
            if path.startswith("/"):
                reader, writer = await asyncio.open_unix_connection(path)
            else:
                reader, writer = await asyncio.open_connection(*path.rsplit(":", 1))
            writer.write(REQUEST)
            what, code, packages = read_answer(await reader.read())
    except (OSError, TimeoutError) as error:
        what = type(error).__name__
    finally:
        if writer:
            writer.close()
    return Visit(due, time.monotonic() - due, late, what, code, packages)


async def visit_all(path: str, rate: float, most: float) -> list[Visit]:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)  # readable: it was closed
    began, visits = time.monotonic(), []
    while not ended.is_set():
        due = began + len(visits) / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        visits.append(asyncio.create_task(visit(path, due, most)))
    return await asyncio.gather(*visits)


def main() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # where the site hangs, all visitors are there at once
    with suppress(PermissionError):  # root's visitors are in time while all cores are busy, as if from elsewhere
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    gc.disable()  # its pauses would look like the site's
    path, rate, *seconds = sys.argv[1:]
    json.dump(asyncio.run(visit_all(path, float(rate), float(seconds[0]) if seconds else MOST_SECONDS)), sys.stdout)


if __name__ == "__main__":
    main()
