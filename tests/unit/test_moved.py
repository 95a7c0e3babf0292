"""What a person is told to type where `current` was moved: only what is not refused, the better way first."""

from __future__ import annotations

from pathlib import Path

import pytest

from bb_release.actions.moved import ways
from bb_release.model.manifest import Manifest, State
from bb_release.model.release import Release

LEFT = "2026-11-23-12-00-00"
LIVE = "2026-11-23-12-45-23"
BACK = f"bb-release switch {LEFT}"


def release(name: str, state: State) -> Release:
    return Release(Path("releases") / name, Manifest(name=name, state=state))


@pytest.mark.parametrize(
    ("live", "left", "typed"),
    [
        (State.VERIFIED, State.VERIFIED, ["bb-release restart", BACK]),
        (State.READY, State.VERIFIED, [f"bb-release switch {LIVE}", BACK]),
        (State.BAD, State.VERIFIED, [BACK, f"bb-release switch {LIVE} --force"]),
        (State.VERIFIED, State.BAD, ["bb-release restart", f"{BACK} --force"]),
        (State.FAILED, State.VERIFIED, [BACK]),
        (State.VERIFIED, None, ["bb-release restart"]),
        (None, State.VERIFIED, [BACK]),
        (None, None, ["bb-release list"]),
    ],
)
def test_what_leads_on_or_back_is_typed_as_it_stands(live: State | None, left: State | None, typed: list[str]) -> None:
    found = ways(live and release(LIVE, live), left and release(LEFT, left))
    assert typed == [what for what, _ in found]
