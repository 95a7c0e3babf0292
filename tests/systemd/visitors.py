"""Visitors of a site: requests at a steady rate, whether or not those before them are answered (an open loop)."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

Answers = Counter[tuple[str, str, str]]  # path, status or what went wrong, release
AT_ONCE = 200  # so many wait while a socket is handed over
MOST = 20_000  # requests of one site: a test that hangs does not ask for ever
PATIENCE_SECONDS = 60.0  # as nginx


def ask(port: int, path: str, body: str = "") -> tuple[int, dict[str, str], str]:
    """One request with a connection of its own: status, headers, text. A body is sent by POST."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("POST" if body else "GET", path, body or None, {"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()
    finally:
        connection.close()


@contextmanager
def visiting(port: int, paths: Sequence[str], a_second: float) -> Iterator[Answers]:
    """Ask for the paths in turn all the while; a path that ends in "add/" gets a POST. All are answered at the end."""
    answers, lock, ended = Answers(), threading.Lock(), threading.Event()

    def visit(path: str) -> None:
        try:
            status, headers, _ = ask(port, path, "()" if path.endswith("add/") else "")
            seen = path, str(status), headers.get("X-Release", "")
        except (OSError, http.client.HTTPException) as error:
            seen = path, repr(error), ""
        with lock:
            answers[seen] += 1

    def come(pool: ThreadPoolExecutor) -> None:
        began = time.monotonic()
        for count in range(MOST):
            if ended.wait(max(0.0, began + count / a_second - time.monotonic())):
                return
            pool.submit(visit, paths[count % len(paths)])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        arrivals = threading.Thread(target=come, args=(pool,))
        arrivals.start()
        try:
            yield answers
        finally:
            ended.set()
            arrivals.join()


@contextmanager
def visiting_all(sites: dict[str, tuple[int, Sequence[str]]], a_second: float) -> Iterator[dict[str, Answers]]:
    with ExitStack() as all_of_them:
        yield {
            name: all_of_them.enter_context(visiting(port, paths, a_second)) for name, (port, paths) in sites.items()
        }


def failed(answers: Answers) -> dict[tuple[str, str, str], int]:
    """What was not answered with 200."""
    return {seen: count for seen, count in answers.items() if seen[1] != "200"}
