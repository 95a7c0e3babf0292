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


def test_no_slot_leads_to_the_live_release_before_the_first_deploy_and_the_first_is_the_idle_one(
    layout: Layout,
) -> None:
    assert ([], "blue") == (slots.leading(layout), slots.other(""))
    slots.point(layout, "blue", a_release(layout, FIRST))
    assert [] == slots.leading(layout)  # nothing is live


def test_the_swap_of_current_alone_changes_which_slot_serves(layout: Layout) -> None:
    app = App("shop", "/r", layout.root, units=(Unit("shop@.service", handover="blue-green"),))
    first, second = a_release(layout, FIRST), a_release(layout, SECOND)
    slots.point(layout, "blue", first)
    go_live(layout, first)
    assert "blue" == instances.active(app)
    slots.point(layout, "green", second)
    assert "blue" == instances.active(app)
    go_live(layout, second)
    assert "green" == instances.active(app)
    go_live(layout, first)
    assert "blue" == instances.active(app)


def test_while_both_lead_to_the_live_release_the_one_where_requests_go_serves(layout: Layout) -> None:
    link = layout.root / "active.sock"
    app = App("shop", "/r", layout.root, units=(Unit("shop@.service", handover="blue-green", socket=str(link)),))
    release = a_release(layout, FIRST)
    go_live(layout, release)
    seen = []
    for led in slots.COLOURS:
        for colour in slots.COLOURS:
            slots.point(layout, colour, release)
        link.unlink(missing_ok=True)
        link.symlink_to(f"{led}.sock")
        seen.append(instances.active(app))
    assert ["blue", "green"] == seen
    slots.forget(layout, "green")
    assert "blue" == instances.active(app)


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
