"""Blue-green after a killed run, or a boot: what `current` leads to serves again, and what it replaces is stopped.

Nothing is stopped, and no visitor led away from it, before that which is to take its place is seen to run from the live
release: a person may have moved `current` to one that does not start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bb_release.actions import handover, instances
from bb_release.actions.audit_beside import beside, twice
from bb_release.actions.verify import ask_health, prove_run, require_running, require_stable, unfit
from bb_release.errors import ReleaseError
from bb_release.model import activation, durable, slots
from bb_release.model.app import App, Unit
from bb_release.tools import host


def repair(app: App, warn: Callable[[str], None]) -> tuple[list[str], list[ReleaseError]]:
    """After a killed run and after a boot: the links, the slots and the instances as `current` wants them.

    Returns what was done, in words, and what a person has to know: what does not run, why what runs is not proven to
    run from the live release, and which worker of another release goes on. What else cannot be done is a warning: it
    must not stop the deploy that mends it.
    """
    order = Repair(app, warn)
    if instances.templates(app):
        order.as_far_as_possible(order.restore)
    return order.done, order.wrong


@dataclass
class Repair:
    """One repair under way."""

    app: App
    warn: Callable[[str], None]
    done: list[str] = field(default_factory=list)
    wrong: list[ReleaseError] = field(default_factory=list)
    told: dict[str, float | None] = field(default_factory=dict)  # when each was told to start, on the boot clock

    def as_far_as_possible(self, act: Callable[[], object]) -> None:
        try:
            act()
        except ReleaseError as error:
            self.warn(f"{error.message}; {error.remedy}")

    def restore(self) -> None:
        colour = instances.active(self.app)
        serves = "" if colour else self._what_serves()
        if serves:
            self.warn("no slot leads to the live release, so what serves is left as it is: bb-release restart")
            self._stop(instances.of(self.app, slots.other(serves)))
            return
        colour = colour or self._slot_after_a_boot()
        if colour:
            self._have_serve(colour)
        else:  # no release was ever live in a slot
            self._stop([each for unit in instances.templates(self.app) for each in instances.both(unit)])

    def _what_serves(self) -> str:
        """The colour to which requests are led, without a socket one that has a slot; "" where none of it runs."""
        layout, led = self.app.layout, instances.led_to(self.app)
        has_socket = any(unit.socket for unit in instances.templates(self.app))
        begun = [led] if has_socket else [each for each in slots.COLOURS if slots.release_in(layout, each)]
        return next((each for each in begun if each and instances.count_up(self.app, each)), "")

    def _slot_after_a_boot(self) -> str:
        """Give the live release a slot where a person has moved `current` and nothing serves any more: as after a boot.

        Returns the slot's colour; "" where no slot was ever made (what is live is started in another way).
        """
        layout, live = self.app.layout, activation.current(self.app.layout)
        if live is None or not any(slots.release_in(layout, each) for each in slots.COLOURS):
            return ""
        colour = handover.idle_colour(self.app)
        self._stop(instances.of(self.app, colour))
        durable.with_reserve(layout.reserve, lambda: slots.point(layout, colour, live))
        return colour

    def _have_serve(self, colour: str) -> None:
        """Have all of a colour run, visitors first; each of the other one is stopped once what replaces it is well."""
        app, idle = self.app, slots.other(colour)
        ours, others = instances.of(app, colour), instances.of(app, idle)
        led, web = instances.led_to(app), [unit for unit in ours if unit.socket]
        begun = [self._start(unit) for unit in web]
        if led in ("", colour) or not instances.count_up(app, led):  # nobody else serves while this one is proven
            self.as_far_as_possible(lambda: handover.lead_requests(app))
        web_is_well = all([*begun, *map(self._is_proven, web)])
        if web_is_well:
            self.as_far_as_possible(lambda: handover.lead_requests(app))
            web_is_well = not web or instances.led_to(app) == colour
        for unit, other in zip(ours, others, strict=True):
            well = web_is_well if unit.socket else self._start(unit) and self._is_proven(unit)
            if well:
                self._stop([other])
            elif not instances.systemd_unit(other).is_down():
                self.warn(f"{other.name} is left as it is: {unit.name}, which is to take its place, is not well")
        if web_is_well and slots.release_in(app.layout, idle) == slots.release_in(app.layout, colour):
            durable.with_reserve(app.layout.reserve, lambda: slots.forget(app.layout, idle))

    def _start(self, unit: Unit) -> bool:
        """Start an instance that does not run. Returns False, and notes why, when that failed."""
        manager = instances.systemd_unit(unit)
        try:
            if manager.state().running:
                return True
            down = manager.is_down()
            twin_runs = down and not instances.systemd_unit(instances.twin(unit)).is_down()
            for refusal in unfit(self.app, unit, beside if twin_runs else twice):
                raise refusal
            told = host.boot_clock() if down else None  # one that is being started, as at boot, was told to before
            manager.start()
        except ReleaseError as error:
            self.wrong.append(error)
            return False
        self.told[unit.name] = told
        self.done.append(f"{unit.name}: did not run, started")
        return True

    def _is_proven(self, unit: Unit) -> bool:
        """Whether what was started now runs from the live release, for all that is seen; notes why it does not."""
        live = activation.current(self.app.layout)
        if unit.name not in self.told or live is None:
            return True
        manager, wanted = instances.systemd_unit(unit), self.app.health
        try:
            run = require_running(unit, manager)
            if not instances.systemd_unit(instances.twin(unit)).is_down():  # which may serve on: there is time for more
                if wanted and unit.socket:
                    ask_health([unit], handover.own_health(wanted, unit, instances.colour_of(unit)), live)
                time.sleep(unit.settle_seconds)
            prove_run(self.app, unit, manager, live, run, self.told[unit.name])
            require_stable(unit, manager, run)
        except ReleaseError as error:
            self.wrong.append(error)
            return False
        return True

    def _stop(self, units: list[Unit]) -> None:
        def stop(unit: Unit) -> None:
            manager = instances.systemd_unit(unit)
            if manager.is_down():
                return
            if unit.socket:
                time.sleep(handover.DRAIN_SECONDS)
            at_work = handover.end_beside(unit, self.warn)
            if at_work:
                self.wrong.append(at_work)
            elif manager.is_down():
                self.done.append(f"{unit.name}: ran beside the live release, stopped")

        for unit in units:
            self.as_far_as_possible(partial(stop, unit))
