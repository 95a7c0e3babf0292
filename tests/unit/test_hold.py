"""Holds and pins: a person's word, never guessed at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bb_release.errors import StateUnreadable
from bb_release.model import hold
from bb_release.model.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "state").mkdir()
    return Layout(tmp_path)


def test_nobody_holds_a_new_app(layout: Layout) -> None:
    assert hold.read(layout) is None
    assert not hold.lift(layout, by_hand=True)


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_hold_says_who_since_when_and_why(layout: Layout, by_hand: bool) -> None:
    hold.place(layout, who="ann", reason="a fair", by_hand=by_hand)
    facts = hold.read(layout)
    since = datetime.fromisoformat(facts.pop("since"))
    assert {"who": "ann", "reason": "a fair", "by_hand": by_hand} == facts
    assert timedelta(0) <= datetime.now(UTC) - since < timedelta(minutes=1)


def test_a_runs_hold_does_not_replace_a_persons(layout: Layout) -> None:
    hold.place(layout, who="ann", reason="a fair", by_hand=True)
    hold.place(layout, who="cron", reason="switched back", by_hand=False)
    assert ("ann", True) == (hold.read(layout)["who"], hold.read(layout)["by_hand"])

    hold.place(layout, who="bob", reason="a fair too", by_hand=True)
    assert "bob" == hold.read(layout)["who"]


def test_a_runs_hold_leaves_alone_what_cannot_be_read(layout: Layout) -> None:
    layout.hold.write_text("{")
    hold.place(layout, who="cron", reason="switched back", by_hand=False)
    assert "{" == layout.hold.read_text()


def test_a_lifted_hold_is_gone(layout: Layout) -> None:
    hold.place(layout, who="ann", reason="a fair", by_hand=True)
    assert hold.lift(layout, by_hand=True)
    assert hold.read(layout) is None
    assert not hold.lift(layout, by_hand=True)


def test_pins_come_back_sorted_and_once(layout: Layout) -> None:
    assert [] == hold.pins(layout)
    hold.write_pins(layout, ["b", "a", "b"])
    assert ["a", "b"] == hold.pins(layout)
    hold.write_pins(layout, [])
    assert [] == hold.pins(layout)


@pytest.mark.parametrize("content", ["", "{", "not json"])
def test_a_hold_or_pins_that_cannot_be_read_do_not_count_as_none(layout: Layout, content: str) -> None:
    layout.hold.write_text(content)
    layout.pins.write_text(content)
    with pytest.raises(StateUnreadable):
        hold.read(layout)
    with pytest.raises(StateUnreadable):
        hold.pins(layout)


@pytest.mark.parametrize("content", ["[]", '"text"', "7"])
def test_a_hold_that_is_no_object_is_never_taken_for_no_hold(tmp_path: Path, content: str) -> None:
    layout = Layout(tmp_path)
    layout.state.mkdir()
    layout.hold.write_text(content)
    with pytest.raises(StateUnreadable):
        hold.read(layout)


def test_pins_that_are_no_list_are_never_taken_for_no_pins(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.state.mkdir()
    layout.pins.write_text("{}")
    with pytest.raises(StateUnreadable):
        hold.pins(layout)


def test_a_run_neither_replaces_nor_lifts_what_a_person_typed(layout: Layout) -> None:
    hold.place(layout, who="ann", reason="the database moves", by_hand=True)
    hold.place(layout, who="bob", reason="rollback", by_hand=False)
    assert not hold.lift(layout, by_hand=False)
    held = hold.read(layout)
    assert held is not None
    assert ("ann", "the database moves", True) == (held["who"], held["reason"], held["by_hand"])
    assert hold.lift(layout, by_hand=True)
    assert hold.read(layout) is None
