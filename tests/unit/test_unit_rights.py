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


def asked(verb: str, handover: str, **states: str) -> list[tuple[str, ...]]:
    """The unit, the harmless verbs and those that sudo is asked for; underscores stand for dots."""
    named = {name.replace("_", "."): state for name, state in states.items()}
    found = rights.questions(verb, "shop.service", handover, named)
    return [(each.unit, " ".join(each.harmless), " ".join(each.wanted)) for each in found]


def test_the_right_is_tried_by_what_does_nothing_to_a_unit_in_its_state_and_to_its_sockets() -> None:
    listens = ("shop.socket", "start", "start reset-failed")
    runs = {"shop_service": "active"}
    assert [("shop.service", "reset-failed", "restart"), listens] == asked("restart", "", **runs, shop_socket="active")
    assert [("shop.service", "try-restart", "restart"), ("shop.socket", "reset-failed", "start reset-failed")] == asked(
        "restart", "socket", shop_service="failed", shop_socket="failed"
    )
    assert [("shop.service", "reset-failed", "restart")] == asked("restart", "restart", **runs, shop_socket="active")
    assert [("shop.service", "reset-failed", "reload")] == asked("reload", "", **runs, shop_socket="active")
    assert [("shop.service", "reset-failed", "restart start stop")] == asked("restart", "blue-green", **runs)
    assert [("shop.service", "try-restart stop", "restart start stop")] == asked(
        "restart", "blue-green", shop_service="inactive"
    )
