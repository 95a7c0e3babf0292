"""The units of an app as their manager knows them: a unit that is handed over blue-green has two instances."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bb_release.errors import NoSuchRelease, ReleaseError
from bb_release.model import release as releases
from bb_release.model import slots
from bb_release.model.app import App, Unit
from bb_release.model.release import Release
from bb_release.tools import process
from bb_release.tools.units import UnitManager, manager_of

if TYPE_CHECKING:
    from bb_release.tools.units.systemd import SystemdUnit

BLUE_GREEN = "blue-green"


def manager_for(unit: Unit) -> UnitManager:
    """Who runs this unit."""
    commands = {
        "start": unit.start,
        "restart": unit.restart,
        "reload": unit.reload,
        "status": unit.status,
    }
    return manager_of(
        kind=unit.kind, name=unit.name, socket=unit.socket, commands=commands, user=unit.user,
        stop_seconds=unit.stop_seconds, handover=unit.handover, env=process.environment(),
    )  # fmt: skip


def templates(app: App) -> list[Unit]:
    """The units that are handed over blue-green, as they are configured."""
    return [unit for unit in app.units if unit.handover == BLUE_GREEN]


def instance(unit: Unit, colour: str) -> Unit:
    """One instance of a template: shop@.service is shop@blue.service."""
    return replace(unit, name=f"{unit.name.partition('@')[0]}@{colour}.service")


def both(unit: Unit) -> list[Unit]:
    """The two instances of a template."""
    return [instance(unit, colour) for colour in slots.COLOURS]


def of(app: App, colour: str) -> list[Unit]:
    """The instances of a colour, one of each template."""
    return [instance(unit, colour) for unit in templates(app)]


def twin(unit: Unit) -> Unit:
    """The other instance of the same template."""
    return instance(unit, slots.other(colour_of(unit)))


def systemd_unit(unit: Unit) -> SystemdUnit:
    """Who runs a unit of systemd's, which each instance is: the configuration allows no other kind."""
    return cast("SystemdUnit", manager_for(unit))


def colour_of(unit: Unit) -> str:
    """The colour of an instance."""
    return unit.name.partition("@")[2].removesuffix(".service")


def configured_name(app: App, unit: Unit) -> str:
    """The name of a unit as it is configured, which is what a person types: of an instance, its template's."""
    names = (each.name for each in templates(app) if each.name.partition("@")[0] == unit.name.partition("@")[0])
    return next(names, unit.name) if unit.handover == BLUE_GREEN else unit.name


def meant(app: App, word: str) -> str:
    """The configured name of the unit that a person means: an instance, as systemd shows it, is its template.

    Raises NoSuchRelease.
    """
    known = {unit.name: unit.name for unit in app.units}
    for unit in templates(app):
        for name in (each.name for each in both(unit)):
            known |= {name: unit.name, name.removesuffix(".service"): unit.name}
    if word not in known:
        names = ", ".join(unit.name for unit in app.units)
        raise NoSuchRelease(f"there is no unit {word!r}", remedy=f"one of: {names}")
    return known[word]


def socket_of(unit: Unit, colour: str) -> Path:
    """Where an instance listens: beside the link that leads requests to one of the two."""
    return Path(unit.socket).with_name(f"{colour}.sock")


def started_through(app: App, unit: Unit) -> Path:
    """The link through which a unit, or an instance, has to start: `current`, or the slot of its colour."""
    if unit.handover == BLUE_GREEN:
        return app.layout.slots / colour_of(unit)
    return app.layout.current


def has_socket(app: App) -> bool:
    """Are visitors led to one of two instances? Else those are workers alone."""
    return any(unit.socket for unit in templates(app))


def led_to(app: App) -> str:
    """The colour to which the link of the first socket leads; "" where there is none."""
    for unit in templates(app):
        if unit.socket:
            try:
                colour = os.readlink(unit.socket).rpartition("/")[2].removesuffix(".sock")
            except OSError:
                return ""
            return colour if colour in slots.COLOURS else ""
    return ""


def active(app: App) -> str:
    """The colour that serves; "" while no slot leads to the live release, or nothing is live.

    Where both lead there, it is the one to which requests go, and without a socket (a worker) the one that runs.
    Raises StateUnreadable, and UnitsNotRestarted where systemd does not say what runs.
    """
    leading = slots.leading(app.layout)
    if len(leading) < 2:
        return "".join(leading)
    return led_to(app) or one_of(app, leading)


def serves(app: App) -> str:
    """The colour that must not be disturbed; "" where none is known. Raises as `active`."""
    return elsewhere(app) or active(app) or led_to(app)


def elsewhere(app: App) -> str:
    """The colour that serves though `current` leads to what the other one runs, or neither: a person has moved it.

    Visitors are led to it, and it runs; without a socket, its worker runs alone. "" where that is not so. Raises as
    `active`.
    """
    if not templates(app):
        return ""
    colour = active(app)
    if has_socket(app):
        others = [led_to(app)]
    else:
        alone = not (colour and count_up(app, colour))
        others = [each for each in slots.COLOURS if alone and slots.release_in(app.layout, each)]
    return next((each for each in others if each not in ("", colour) and count_up(app, each)), "")


def left_running(app: App) -> Release | None:
    """The release in that colour; None where none runs there, or it cannot be read. Raises as `active`."""
    colour = elsewhere(app)
    with suppress(ReleaseError):
        return releases.read(app.layout.releases / slots.release_in(app.layout, colour)) if colour else None
    return None


def served(app: App, live: Release | None) -> Release | None:
    """The release that visitors are led to: the live one, or another where a person has moved `current`.

    Raises as `active`.
    """
    return (has_socket(app) and left_running(app)) or live


def but_serves(app: App) -> str:
    """Another release that visitors are led to, for a `site:` line; "" where there is none."""
    with suppress(ReleaseError, OSError):
        other = served(app, None)
        return f"; but {other.name} serves" if other else ""
    return ""


def one_of(app: App, leading: list[str]) -> str:
    """Of the colours whose slots lead to a release, one that runs; of two that do, that to which requests go."""
    led, up = led_to(app), {colour: count_up(app, colour) for colour in leading}
    return max(leading, key=lambda colour: (up[colour] > 0, colour == led, up[colour]))


def count_up(app: App, colour: str) -> int:
    """How many instances of a colour run, or will again by themselves: of those that serve visitors, if any does."""
    units = of(app, colour)
    return sum(not systemd_unit(unit).is_down() for unit in [u for u in units if u.socket] or units)


def serving(app: App) -> tuple[Unit, ...]:
    """Every unit, a template's as the instance that serves; before the first deploy, that which will be the first."""
    if not templates(app):
        return app.units
    colour = active(app) or elsewhere(app) or slots.COLOURS[0]
    return tuple(instance(unit, colour) if unit.handover == BLUE_GREEN else unit for unit in app.units)


def every(app: App) -> Iterator[Unit]:
    """Every unit, and of a template both instances: what rights are needed for."""
    for unit in app.units:
        if unit.handover == BLUE_GREEN:
            yield from both(unit)
        else:
            yield unit
