"""Django's own commands, and questions to Django, inside a release's environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bb_release.tools.process import Completed, ProcessFailed, run

PROBE = Path(__file__).parents[1] / "inside" / "probe.py"


@dataclass(frozen=True)
class Project:
    """Where a Django project lies and how it is started."""

    python: Path
    folder: Path  # the working directory: where manage.py is
    manage: str
    env: Mapping[str, str]
    pass_fds: Sequence[int] = ()
    on_line: Callable[[str], None] | None = None


def manage(project: Project, *arguments: str, timeout_seconds: float | None, low_priority: bool = True) -> Completed:
    """Run `manage.py` with arguments. Raises ProcessFailed."""
    return run(
        [project.python, project.manage, *arguments],
        cwd=project.folder,
        env=project.env,
        timeout_seconds=timeout_seconds or None,
        on_line=project.on_line,
        pass_fds=project.pass_fds,
        low_priority=low_priority,
    )


@cache
def answer_in_memory() -> Path:
    """Where this run's questions are answered: no disk has to have room for it (memfd_create(2), proc(5))."""
    return Path(f"/proc/{os.getpid()}/fd/{os.memfd_create('answer')}")


def ask(
    project: Project,
    question: str,
    answer: Path,
    *,
    timeout_seconds: float | None,
    **arguments: object,
) -> dict[str, Any]:
    """Ask Django a question of `inside/probe.py`; the answer comes by a file. Raises ProcessFailed."""
    answer.write_bytes(b"")
    argv: list[str | Path] = [project.python, PROBE, question, answer, project.manage, json.dumps(arguments)]
    try:
        done = run(
            argv,
            cwd=project.folder,
            env=project.env,
            timeout_seconds=timeout_seconds or None,
            on_line=project.on_line,
            pass_fds=project.pass_fds,
        )
        facts = json.loads(answer.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ProcessFailed([str(word) for word in argv], "gave no answer", done.output, 0) from error
    if not isinstance(facts, dict):
        raise ProcessFailed([str(word) for word in argv], "gave no answer", done.output, 0)
    return facts
