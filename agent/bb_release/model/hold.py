"""Hold: timers then do nothing, until a person lifts it. Pins: releases that prune leaves alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bb_release.errors import StateUnreadable
from bb_release.model import durable
from bb_release.model.layout import Layout
from bb_release.model.shape import is_text, list_of, record

_IS_PINS = list_of(is_text)
_IS_HOLD = record(dict.fromkeys(("who", "since", "reason"), is_text), needed=("who", "since", "reason"))


def place(layout: Layout, *, who: str, reason: str, by_hand: bool) -> None:
    """Put the app on hold. A hold that a person typed stops everyone, one that a run placed stops timers.

    A run does not replace a person's hold by its weaker one, nor one that cannot be read: that stops everyone too.
    Raises OSError.
    """
    if not by_hand:
        try:
            if (read(layout) or {}).get("by_hand"):
                return
        except StateUnreadable:
            return
    durable.put_json(
        layout.hold,
        {
            "who": who,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "reason": reason,
            "by_hand": by_hand,
        },
    )


def read(layout: Layout) -> dict[str, Any] | None:
    """Who holds the app, since when and why; None when nobody does. Raises StateUnreadable."""
    facts: dict[str, Any] | None = durable.read_json(layout.hold)
    if facts is not None and not _IS_HOLD(facts):
        raise unreadable(layout.hold)
    return facts


def lift(layout: Layout, *, by_hand: bool) -> bool:
    """Lift the hold; False when there was none. Only a person lifts (`by_hand`) what a person typed."""
    held = read(layout)
    if held and held.get("by_hand") and not by_hand:
        return False
    try:
        layout.hold.unlink()
    except FileNotFoundError:
        return False
    durable.sync_folder(layout.state)
    return True


def pins(layout: Layout) -> list[str]:
    """The names of pinned releases. Raises StateUnreadable."""
    facts = durable.read_json(layout.pins)
    if facts is not None and not _IS_PINS(facts):
        raise unreadable(layout.pins)
    return list(facts or ())


def unreadable(path: Path) -> StateUnreadable:
    """A state file that holds something else than it should: never taken for "nothing"."""
    return StateUnreadable(
        f"{path.name} does not hold what it should", remedy=f"look at {path}; nothing was touched. Mend or remove it"
    )


def write_pins(layout: Layout, names: Iterable[str]) -> None:
    durable.put_json(layout.pins, sorted(set(names)))
