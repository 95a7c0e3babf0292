"""What Celery's workers answer over their broker, asked with the release's own `celery` program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bb_release.tools import process
from bb_release.tools.process import ProcessFailed

REPLY_SECONDS = 1.0  # how long one question waits for answers, as Celery itself has it: who is up answers at once
ASK_SECONDS = 60.0  # with the import of the site before it
NOBODY = 69  # celery/bin/control.py: EX_UNAVAILABLE, no node replied


def workers(program: Path, application: str, *, folder: Path, env: Mapping[str, str]) -> dict[int, str]:
    """Return the workers that answer: their process ids with their names. Raises ProcessFailed (no broker, no app)."""
    return read_workers(_ask("stats", program, application, folder, env))


def running_tasks(program: Path, application: str, *, folder: Path, env: Mapping[str, str]) -> dict[str, int]:
    """Return what workers are doing now, as "shop.tasks.send (its id)", and in which process. Raises ProcessFailed."""
    return read_tasks(_ask("active", program, application, folder, env))


def read_workers(output: str) -> dict[int, str]:
    """What `inspect stats` printed; whoever can write to the broker can answer, so what is no worker is left out."""
    said = _read(output)
    return {facts["pid"]: name for name, facts in said.items() if isinstance(facts, dict) and _is_pid(facts.get("pid"))}


def read_tasks(output: str) -> dict[str, int]:
    """What `inspect active` printed; what is no task is left out."""
    lists = [doing for doing in _read(output).values() if isinstance(doing, list)]
    tasks = [task for doing in lists for task in doing if isinstance(task, dict) and _is_pid(task.get("worker_pid"))]
    return {f"{task.get('name')} ({task.get('id')})": task["worker_pid"] for task in tasks}


def _is_pid(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _ask(what: str, program: Path, application: str, folder: Path, env: Mapping[str, str]) -> str:
    argv = [str(program), "-A", application, "inspect", "--json", "--timeout", f"{REPLY_SECONDS:g}", what]
    try:
        done = process.run(argv, cwd=folder, env=env, timeout_seconds=ASK_SECONDS, capture=True)
    except ProcessFailed as error:
        if error.returncode == NOBODY:
            return ""
        raise
    return done.output


def _read(output: str) -> dict[str, Any]:
    # the site may print at import, before Celery does
    line = next((line for line in reversed(output.splitlines()) if line.startswith("{")), "{}")
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = {}
    return said if isinstance(said, dict) else {}
