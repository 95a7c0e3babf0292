"""What the site's Django is asked is in no command line: everyone on the host reads those, a header may be a secret."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bb_release.tools import django, process
from bb_release.tools import stage as stages
from bb_release.tools.process import ProcessFailed


@pytest.mark.parametrize("stage", [True, False], ids=["in the stage", "alone"])
def test_a_header_of_the_health_request_is_in_no_command_line(tmp_path: Path, stage: bool) -> None:
    (tmp_path / "manage.py").write_text("print(open('/proc/self/cmdline').read().split(chr(0)))\n")
    lines: list[str] = []
    project = django.Project(
        python=Path(sys.executable), folder=tmp_path, manage="manage.py", env=process.environment({}), pass_fds=(),
        on_line=lines.append, stage=stage,
    )  # fmt: skip
    try:
        with pytest.raises(ProcessFailed):  # this manage.py is none of Django's
            django.ask(
                project, "rehearse", django.answer_in_memory(), is_answer=bool, timeout_seconds=30,
                headers={"authorization": "canary"},
            )  # fmt: skip
    finally:
        stages.end()
    assert any("'manage.py', 'check'" in line for line in lines), lines
    assert not any("canary" in line for line in lines), lines
