"""Django's own commands, and questions to Django, inside a release's environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bb_release.tools import stage
from bb_release.tools.process import Completed, ProcessFailed, run

CHECK = ("check",)
CHECK_DEPLOY = ("check", "--deploy")
COLLECT_STATIC = ("collectstatic", "--noinput", "--verbosity", "1")
MIGRATE = ("migrate", "--noinput")
LARGEST_ANSWER = 16_000_000  # bytes; ten thousand migrations are one of these
STAGED = (CHECK, CHECK_DEPLOY, COLLECT_STATIC, MIGRATE)  # what one stage may be asked for


@dataclass(frozen=True)
class Project:
    """Where a Django project lies and how it is started."""

    python: Path
    folder: Path  # the working directory: where manage.py is
    manage: str
    env: Mapping[str, str]
    pass_fds: Sequence[int] = ()
    on_line: Callable[[str], None] | None = None
    stage: bool = False  # whether Django is loaded once for several commands, where the project bears it


def manage(
    project: Project, *arguments: str, timeout_seconds: float | None, low_priority: bool = True, collected: str = ""
) -> Completed:  # fmt: skip
    """Run `manage.py` with arguments. Raises ProcessFailed.

    `collected` is a folder, of which a collectstatic in the stage takes what comes out the same: it may take it apart.
    """
    words = [project.manage, *arguments]
    staged = {"words": words, "collected": collected} if arguments in STAGED else {}
    return _run(project, staged, [project.python, *words], timeout_seconds, low_priority=low_priority)


@cache
def answer_in_memory() -> Path:
    """Where this run's questions are answered: no disk has to have room for it (memfd_create(2), proc(5))."""
    return Path(f"/proc/{os.getpid()}/fd/{os.memfd_create('answer')}")


def ask(
    project: Project,
    question: str,
    answer: Path,
    *,
    is_answer: Callable[[object], bool],
    timeout_seconds: float | None,
    **arguments: object,
) -> dict[str, Any]:
    """Ask Django a question of `inside/probe.py`; the answer comes by a file.

    The site's own code may write there too, whatever it likes: what `is_answer` does not take is no answer.
    Raises ProcessFailed.
    """
    answer.write_bytes(b"")
    words = [project.manage, *CHECK]
    request = {"words": words, "question": question, "answer": str(answer), "arguments": arguments}
    with stage.request_file(request) as asked:
        argv: list[str | Path] = [project.python, stage.PROGRAM, "-", str(asked)]
        done = _run(project, request, argv, timeout_seconds, low_priority=False, handed=[asked])
    with answer.open("rb") as file:
        facts = read_answer(file.read(LARGEST_ANSWER + 1), is_answer)
    if facts is None:
        raise ProcessFailed([str(word) for word in argv], "gave no answer that can be right", done.output, 0)
    return facts


def read_answer(raw: bytes, is_answer: Callable[[object], bool]) -> dict[str, Any] | None:
    """What a file says as an answer; None for what cannot be one."""
    try:
        facts = json.loads(raw) if len(raw) <= LARGEST_ANSWER else None
        json.dumps(facts, ensure_ascii=False).encode()  # half of a pair could be written nowhere
    except (ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) and is_answer(facts) else None


def _run(
    project: Project, staged: Mapping[str, Any], alone: Sequence[str | Path], timeout_seconds: float | None, *,
    low_priority: bool, handed: Sequence[int] = (),
) -> Completed:  # fmt: skip
    """In the stage where there is one, else in a process of its own."""
    limit = timeout_seconds or None
    if project.stage and staged:
        place = stage.Place(project.python, project.folder, project.env, tuple(project.pass_fds))
        others = [[project.manage, *words] for words in STAGED]
        done = stage.run(
            place, {**staged, "others": others},
            timeout_seconds=limit, on_line=project.on_line, low_priority=low_priority,
        )  # fmt: skip
        if done is not None:
            return done
    return run(
        alone, cwd=project.folder, env=project.env, timeout_seconds=limit, on_line=project.on_line,
        pass_fds=(*project.pass_fds, *handed), low_priority=low_priority,
    )  # fmt: skip
