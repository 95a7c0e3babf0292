"""The verbs that the deploy user needs for each unit, and no more."""

from __future__ import annotations

from pathlib import Path

from bb_release.actions import unit_rights
from bb_release.model.app import App, Unit
from bb_release.tools.units import rights

APP = App("shop", "git@git.example.org:a/b.git", Path("/srv/shop"))


def granted(*units: Unit, sockets: tuple[str, ...] = ()) -> dict[str, object]:
    return dict(unit_rights.grants(App(APP.name, APP.repository, APP.root, units=units), sockets))


def test_each_unit_of_the_system_has_the_verbs_of_its_handover_under_its_full_name() -> None:
    assert {"shop.service": rights.RESTART, "nginx.service": rights.RELOAD, "shop.socket": rights.SOCKET} == granted(
        Unit("shop"), Unit("nginx.service", runs_release=False), sockets=("shop.socket",)
    )
    pair = {f"shop@{colour}.service": rights.BESIDE for colour in ("blue", "green")}
    assert pair == granted(Unit("shop@.service", handover="blue-green"))


def test_units_of_others_need_none() -> None:
    assert {} == granted(
        Unit("u.service", user=True), Unit("web", kind="supervisor", socket="/s"), sockets=("u.socket",)
    )
