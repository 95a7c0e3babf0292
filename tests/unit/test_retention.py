"""Which releases stay, and the reason a person is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bb_release.model.manifest import Manifest, State
from bb_release.model.release import Release
from bb_release.model.retention import judge


def releases_of(letters: str) -> list[Release]:
    """One release for each letter, oldest first, named r0, r1, ..; a letter is the first of its state's name.

    Good ones and bad ones went live in the order of their names. g: returning, f: failed, n: ready, c: activating.
    """
    states = {"v": State.VERIFIED, "a": State.ADOPTED, "f": State.FAILED, "x": State.BAD, "b": State.BUILDING,
              "n": State.READY, "c": State.ACTIVATING, "g": State.RETURNING}  # fmt: skip
    made = []
    for number, letter in enumerate(letters):
        activations = ({"sequence": number + 1},) if letter in "vax" else ()
        manifest = Manifest(name=f"r{number}", state=states[letter], activations=activations)
        made.append(Release(Path("/nowhere") / manifest.name, manifest))
    return made


@dataclass(frozen=True)
class Case:
    letters: str
    kept: str
    keep: int = 1
    current: str = ""
    previous: str = ""
    pinned: tuple[str, ...] = ()
    in_use: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)


CASES = {
    "nothing": Case("", ""),
    "the newest good ones": Case(
        "vvvv", "r3 r2", keep=2, reasons={"r3": "good release 1 of the 2", "r0": "older than the 2 good ones"}
    ),
    "fewer than are kept": Case("vv", "r1 r0", keep=20),
    "adopted counts as good": Case("avv", "r2 r1 r0", keep=3),
    "failed ones never push good ones out": Case(
        "vvffffff", "r7 r1 r0", keep=2, reasons={"r6": "failed, never a target", "r7": "newest that never went live"}
    ),
    "bad ones never push good ones out": Case("vvxxx", "r1 r0", keep=2, reasons={"r4": "bad, never a target"}),
    "the live one": Case("vvv", "r2 r0", current="r0", reasons={"r0": "it is live"}),
    "the live one even when it is bad": Case("xvv", "r2 r0", current="r0", reasons={"r0": "it is live"}),
    "the previous one": Case("vvv", "r2 r0", current="r2", previous="r0", reasons={"r0": "live before the current"}),
    "a pinned one": Case("fvv", "r2 r0", pinned=("r0",), reasons={"r0": "pinned"}),
    "one in use": Case("xvv", "r2 r0", in_use=("r0",), reasons={"r0": "a process still uses it"}),
    "an unfinished switch": Case("cvg", "r2 r1 r0", reasons={"r0": "recover", "r2": "recover"}),
    "only the newest unfinished": Case("fbnv", "r3 r2", reasons={"r2": "(ready)", "r1": "building, never a target"}),
    "an unreadable one": Case("vv", "r1 r9", unreadable=("r9",), reasons={"r9": "cannot be read"}),
    "keep none, yet the live one": Case("vv", "r1", keep=0, current="r1"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_release_stays_or_goes_for_a_reason(case: Case) -> None:
    verdicts = judge(
        releases_of(case.letters),
        keep=case.keep,
        current=case.current,
        previous=case.previous,
        pinned=case.pinned,
        in_use=case.in_use,
        unreadable=case.unreadable,
    )
    reasons = {v.name: v.reason for v in verdicts}
    assert case.kept.split() == [v.name for v in verdicts if v.keep]
    assert len(case.letters) + len(case.unreadable) == len(reasons) == len(verdicts)
    assert all(reasons.values())
    for name, reason in case.reasons.items():
        assert reason in reasons[name]


def test_good_ones_are_kept_by_when_they_were_last_live_not_by_age() -> None:
    old, *others = releases_of("vvv")
    back = Release(
        old.folder, Manifest(name="r0", state=State.VERIFIED, activations=({"sequence": 1}, {"sequence": 9}))
    )
    verdicts = judge([back, *others], keep=1, current="", previous="")
    assert ["r0"] == [v.name for v in verdicts if v.keep]
