"""Which of the two slots serves: never stored, always the one that leads to the live release."""

from __future__ import annotations

import os
from pathlib import Path

from bb_release.actions import instances
from bb_release.model import activation, slots
from bb_release.model.app import App, Unit
from bb_release.model.layout import Layout
from bb_release.model.release import Release
from made_releases import FIRST, SECOND, a_release


def go_live(layout: Layout, release: Release) -> None:
    activation.stage_current(layout, release)
    activation.swap_current(layout)


def test_nothing_serves_before_the_first_deploy_and_the_first_slot_is_the_idle_one(layout: Layout) -> None:
    assert ("", "blue") == (slots.active(layout), slots.other(slots.active(layout)))
    slots.point(layout, "blue", a_release(layout, FIRST))
    assert "" == slots.active(layout)  # nothing is live


def test_the_swap_of_current_alone_changes_which_slot_serves(layout: Layout) -> None:
    first, second = a_release(layout, FIRST), a_release(layout, SECOND)
    slots.point(layout, "blue", first)
    go_live(layout, first)
    assert "blue" == slots.active(layout)
    slots.point(layout, "green", second)
    assert "blue" == slots.active(layout)
    go_live(layout, second)
    assert "green" == slots.active(layout)
    go_live(layout, first)
    assert "blue" == slots.active(layout)


def test_while_both_lead_to_the_live_release_the_one_where_requests_go_serves(layout: Layout) -> None:
    release = a_release(layout, FIRST)
    go_live(layout, release)
    for colour in slots.COLOURS:
        slots.point(layout, colour, release)
    assert ("blue", "green", "blue") == tuple(slots.active(layout, led) for led in ("blue", "green", "pink"))
    slots.forget(layout, "blue")
    assert "green" == slots.active(layout, "blue")


def test_a_slot_is_a_relative_link_that_is_swapped_and_not_written_through(layout: Layout) -> None:
    slots.point(layout, "blue", a_release(layout, FIRST))
    slots.point(layout, "blue", a_release(layout, SECOND))
    assert f"../releases/{SECOND}" == os.readlink(layout.slots / "blue")
    assert ["blue"] == os.listdir(layout.slots)
    assert SECOND == slots.release_in(layout, "blue")
    assert "" == slots.release_in(layout, "green")


def test_a_link_that_leads_to_no_instance_s_socket_names_no_colour(tmp_path: Path) -> None:
    link = tmp_path / "active.sock"
    app = App("shop", "/r", tmp_path, units=(Unit("shop@.service", handover="blue-green", socket=str(link)),))
    seen = []
    for target in ("green.sock", "gunicorn.sock", "../green"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        seen.append(instances.led_to(app))
    assert ["green", "", "green"] == seen
