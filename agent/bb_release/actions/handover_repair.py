"""Blue-green after a killed run, or a boot: what `current` leads to serves again, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from bb_release.actions import handover, instances
from bb_release.actions.verify import prove_run, require_running
from bb_release.errors import ReleaseError
from bb_release.model import activation, durable, slots
from bb_release.model.app import App, Unit
from bb_release.tools import host


def repair(app: App, warn: Callable[[str], None]) -> tuple[list[str], list[ReleaseError]]:
    """After a killed run and after a boot: the links, the slots and the instances as `current` wants them.

    Returns what was done, in words, and what a person has to know: why what was started is not proven to run from the
    live release, and which worker of another release goes on. What cannot be done is a warning: it must not stop the
    deploy that mends it.
    """
    done: list[str] = []
    wrong: list[ReleaseError] = []
    if not instances.templates(app):
        return done, wrong

    def as_far_as_possible(act: Callable[[], object]) -> None:
        try:
            act()
        except ReleaseError as error:
            warn(f"{error.message}; {error.remedy}")

    def stop_all_but(serves: str) -> None:
        for each in (each for each in slots.COLOURS if each != serves):
            for unit in (instances.instance(unit, each) for unit in instances.templates(app)):
                as_far_as_possible(partial(_stop_beside, unit, done, wrong))

    def put_in_order() -> None:
        colour, led = instances.active(app), instances.led_to(app)
        if not colour and led and instances.count_up(app, led):
            warn("no slot leads to the live release, so what serves is left as it is: bb-release restart")
            stop_all_but(led)
            return
        if not colour:
            stop_all_but("")
            colour = _slot_after_a_boot(app)
        if colour and _serve_again(app, colour, as_far_as_possible, done, wrong):
            stop_all_but(colour)  # not before: where this one does not serve, the other may

    as_far_as_possible(put_in_order)
    return done, wrong


def _serve_again(
    app: App, colour: str, attempt: Callable[[Callable[[], object]], None], done: list[str], wrong: list[ReleaseError]
) -> bool:
    """Have all run that serves, visitors first; whether those are served now."""
    started: list[tuple[Unit, float | None]] = []

    def start(unit: Unit) -> None:
        manager = handover.systemd_unit(unit)
        if not manager.state().running:
            # one that is being started, as at boot, was told to before
            told = host.boot_clock() if manager.is_down() else None
            manager.start()
            started.append((unit, told))
            done.append(f"{unit.name}: did not run, started")

    ours = [instances.instance(unit, colour) for unit in instances.templates(app)]
    web = [unit for unit in ours if unit.socket]
    for unit in web:
        attempt(partial(start, unit))

    def lead() -> None:
        led = instances.led_to(app)  # visitors stay with the other one while that alone runs
        if led in ("", colour) or not instances.count_up(app, led) or _all_run(web):
            handover.lead_requests(app)

    attempt(lead)
    for unit in (unit for unit in ours if not unit.socket):
        attempt(partial(start, unit))
    well = _all_run(web or ours) and (not web or instances.led_to(app) == colour)
    wrong += _unproven(app, started)
    idle = slots.other(colour)
    if slots.release_in(app.layout, idle) == slots.release_in(app.layout, colour):
        durable.with_reserve(app.layout.reserve, lambda: slots.forget(app.layout, idle))
    return well


def _all_run(units: list[Unit]) -> bool:
    return all(handover.systemd_unit(unit).state().running for unit in units)


def _stop_beside(unit: Unit, done: list[str], wrong: list[ReleaseError]) -> None:
    """Raises ReleaseError; for a worker that goes on, it is in `wrong` instead."""
    manager = handover.systemd_unit(unit)
    if manager.is_down():
        return
    try:
        manager.stop()
    except ReleaseError as error:
        at_work = handover.still_at_work(unit, manager, error)
        if at_work is None:
            raise
        wrong.append(at_work)
    else:
        done.append(f"{unit.name}: ran beside the live release, stopped")


def _slot_after_a_boot(app: App) -> str:
    """Give the live release a slot where a person has moved `current` and nothing serves any more: as after a boot.

    Returns the slot's colour; "" where something runs, or no slot was ever made (it is started in another way).
    """
    live = activation.current(app.layout)
    led = any(slots.release_in(app.layout, each) for each in slots.COLOURS)
    if live is None or not led or any(instances.count_up(app, each) for each in slots.COLOURS):
        return ""
    colour = handover.idle_colour(app)
    durable.with_reserve(app.layout.reserve, lambda: slots.point(app.layout, colour, live))
    return colour


def _unproven(app: App, started: Sequence[tuple[Unit, float | None]]) -> Iterator[ReleaseError]:
    """Why each that does not run from the live release, for all that is seen, does not; it serves all the same."""
    live = activation.current(app.layout)
    if live is None:
        return
    for unit, told in started:
        manager = handover.systemd_unit(unit)
        try:
            prove_run(app, unit, manager, live, require_running(unit, manager), told)
        except ReleaseError as error:
            yield error
