"""A unit that is another run than before is not stable, whichever of its facts tells that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from bb_release.actions.proof import require_new
from bb_release.actions.verify import require_stable
from bb_release.errors import NotHealthy
from bb_release.model.app import Unit
from bb_release.tools.units import UnitState

UNIT = Unit("web.service")
BEFORE = UnitState(True, 100, "active (running)", 50.0, restarts=1, invocation="a1")


@dataclass
class Manager:
    """A manager that tells this state."""

    now: UnitState

    def state(self) -> UnitState:
        return self.now

    def log_lines(self) -> list[str]:
        return ["its last line"]


@pytest.mark.parametrize("change", [{"main_pid": 101}, {"restarts": 2}, {"invocation": "a2"}, {"running": False}])
def test_each_fact_alone_tells_of_another_run(change: dict[str, Any]) -> None:
    manager: Any = Manager(replace(BEFORE, **change))
    with pytest.raises(NotHealthy) as error:
        require_stable(UNIT, manager, BEFORE)
    assert "its last line" in error.value.details


def test_the_same_run_is_stable() -> None:
    manager: Any = Manager(replace(BEFORE, summary="active (reloading)"))
    require_stable(UNIT, manager, BEFORE)


@pytest.mark.parametrize(
    ("left", "is_new"),
    [
        ((100, 50.0, ""), False),
        ((100, 50.0, "a0"), False),
        ((99, 50.0, "a1"), False),
        ((100, 49.0, "a0"), True),  # the number was given again
        ((99, 49.0, ""), True),
        (None, True),
    ],
)
def test_a_restart_is_one_by_its_process_and_by_its_invocation(
    left: tuple[int, float | None, str] | None, is_new: bool
) -> None:
    manager: Any = Manager(BEFORE)
    if is_new:
        require_new(UNIT, manager, BEFORE, left)
        return
    with pytest.raises(NotHealthy, match="was told to restart"):
        require_new(UNIT, manager, BEFORE, left)
