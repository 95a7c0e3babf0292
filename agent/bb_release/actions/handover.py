"""Blue-green: a release is started beside the one that serves, proven over its own socket, and then takes over.

The order, which `recover` relies on: the idle slot is led to the release, its instance started and proven; the
manifest says `activating`, `current` is swapped (the one commit point) and, at once after it, the link that nginx
follows; what has no socket to be proven over (a Celery worker takes tasks as soon as it runs) is started; all is
verified, and recorded; and only then the instance before is stopped. Elsewhere nothing of this is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from bb_release.actions import instances, workers
from bb_release.actions.build import request_of
from bb_release.actions.every_worker import ask_every_worker
from bb_release.actions.proof import standing, started_since
from bb_release.actions.verify import prove_units, remember
from bb_release.errors import NotHealthy, ReleaseError, UnitsNotRestarted
from bb_release.model import activation, durable, slots
from bb_release.model.app import App, Health, Unit
from bb_release.model.release import Release
from bb_release.model.step import Deployment, Scope, Step, do_each
from bb_release.tools import host
from bb_release.tools.units.systemd import SystemdUnit

DRAIN_SECONDS = 1.0  # longer than it takes nginx to connect by the link as it was


def start_beside(deployment: Deployment) -> None:
    """Start the release in the idle slot and prove it there, while nothing leads to it. Raises ReleaseError."""
    app, layout = deployment.app, deployment.layout
    live = activation.current(layout)
    serves = instances.serves(app)
    if not instances.active(app) and live is not None and live.name != deployment.release.name:
        # what is live was started in another way: with a slot of its own it can be brought back like any other
        serves = serves or slots.COLOURS[1]
        if not slots.release_in(layout, serves):  # the slot of what serves says what that runs
            durable.with_reserve(layout.reserve, lambda: slots.point(layout, serves, live))
    idle = slots.other(serves)
    durable.with_reserve(layout.reserve, lambda: slots.point(layout, idle, deployment.release))
    units = [unit for unit in instances.of(app, idle) if unit.socket]
    try:
        for unit in units:
            _start(deployment, unit)
        for unit in units:
            own = own_health(app.health, unit, idle) if app.health else None
            prove_units(deployment, [unit], own)
            silent = ask_every_worker(unit, instances.systemd_unit(unit), own, deployment.release) if own else set()
            if silent:
                pids = ", ".join(map(str, sorted(silent)))
                deployment.reporter.warn(
                    f"{unit.name}: nothing shows whether {pids}, which answered nothing, is a worker"
                )
    except Exception:  # a signal too: nothing is left beside the release that serves
        stop_idle(app, deployment.reporter.warn, idle)
        if live is not None and live.name == deployment.release.name:
            durable.with_reserve(layout.reserve, lambda: slots.forget(layout, idle))
        raise


def start_workers(deployment: Deployment) -> None:
    """Start what takes work by itself, now that the release is live; what it follows goes on until it is stopped."""
    for unit in _workers(deployment.app):
        _start(deployment, unit)


def _workers(app: App) -> Iterator[Unit]:
    """The instances that serve, and are asked over no socket."""
    return (unit for unit in instances.serving(app) if unit.handover == instances.BLUE_GREEN and not unit.socket)


def _start(deployment: Deployment, unit: Unit) -> None:
    """Not systemd's start: what a killed run left there is no proof of anything."""
    manager = instances.systemd_unit(unit)
    deployment.reporter.line(f"start {unit.name}")
    remember(deployment, unit, manager)
    deployment.ordered[unit.name] = host.boot_clock()
    manager.restart()


def own_health(wanted: Health, unit: Unit, colour: str) -> Health:
    """The same question, put to an instance's own socket as nginx would put it."""
    scheme, path, name = request_of(wanted.url)
    given = {key.lower() for key, _ in wanted.headers}
    more = [("Host", name)] if "host" not in given and name != "localhost" else []
    more += [("X-Forwarded-Proto", "https")] if "x-forwarded-proto" not in given and scheme == "https" else []
    url = f"http+unix://{instances.socket_of(unit, colour)}:{path}"
    return replace(wanted, url=url, headers=(*wanted.headers, *more))


def lead_requests(app: App) -> None:
    """Swap the links that nginx follows at each connect, to the colour that serves. Raises StorageFailed."""
    colour = instances.active(app)
    for unit in instances.templates(app):
        if unit.socket and colour:
            _lead(app, Path(unit.socket), colour)


def _lead(app: App, link: Path, colour: str) -> None:
    def swap() -> None:
        with suppress(FileNotFoundError):
            if link.readlink().name == f"{colour}.sock":
                return
        staged = link.with_name(f".{link.name}.new")
        staged.unlink(missing_ok=True)
        staged.symlink_to(f"{colour}.sock")
        staged.replace(link)  # not flushed: a folder below /run does not outlive the power, and is made anew at boot

    durable.with_reserve(app.layout.reserve, swap)


def take_over(deployment: Deployment) -> None:
    """A live release that was started beside itself: requests go to the new instance, the old slot is no more."""
    layout, app = deployment.layout, deployment.app
    old = instances.active(app)
    if slots.release_in(layout, slots.other(old)) != slots.release_in(layout, old):
        lead_requests(app)  # the release had no slot before this one
        return
    for unit in instances.templates(app):
        if unit.socket:
            _lead(app, Path(unit.socket), slots.other(old))
    durable.with_reserve(layout.reserve, lambda: slots.forget(layout, old))


def bring_back(app: App, release: Release) -> None:
    """Start the instance of a release that is to serve again, should it not run; no worker yet. Raises ReleaseError.

    One that has no slot any more gets that of what does not serve; of two, one has to do.
    """
    if not instances.templates(app):
        return
    leading = [each for each in slots.COLOURS if slots.release_in(app.layout, each) == release.name]
    colour = instances.one_of(app, leading) if leading else idle_colour(app)
    if len(leading) > 1:  # the release was being started anew beside itself
        durable.with_reserve(app.layout.reserve, lambda: slots.forget(app.layout, slots.other(colour)))
    if not leading:
        durable.with_reserve(app.layout.reserve, lambda: slots.point(app.layout, colour, release))
    for unit in instances.of(app, colour):
        if unit.socket:
            _have_run(app, unit, release)


def bring_workers_back(deployment: Deployment) -> None:
    """Start what takes work by itself, should it not run: no visitor waits for it. Raises ReleaseError."""
    app, release = deployment.app, deployment.release
    do_each(partial(_have_run, app, unit, release) for unit in _workers(app))


def _have_run(app: App, unit: Unit, release: Release) -> None:
    """Start an instance, or start it anew where it runs from what its slot led to before."""
    manager = instances.systemd_unit(unit)
    state = manager.state()
    if not state.running:
        manager.start()
        return
    main = state.main_pid or min(manager.processes(), default=0)
    if started_since(instances.started_through(app, unit), main, state, release.folder):
        return
    try:  # a clock that was set back says so of what has served all the time
        standing(app, unit, manager, release.folder, state)
    except NotHealthy:
        manager.restart()


def stop_before(deployment: Deployment) -> None:
    """Stop what served before: it finishes its requests. The new release is live, so a failure is a warning.

    A worker that goes on taking tasks with another release's code is `unfinished` business, for who ends the run.
    """
    app = deployment.app
    if not instances.templates(app) or not instances.active(app):
        return
    time.sleep(DRAIN_SECONDS)

    def stop(unit: Unit, manager: SystemdUnit) -> None:
        tasks: list[str] = []
        if unit.celery:
            with suppress(ReleaseError):  # what it does is only told
                tasks = workers.tasks_before(deployment, unit, manager)
        manager.stop()
        workers.tell_what_was_left(deployment, unit, manager, tasks)

    for unit in instances.of(app, idle_colour(app)):
        deployment.unfinished = end_beside(unit, deployment.reporter.warn, stop) or deployment.unfinished


def stop_idle(app: App, warn: Callable[[str], None], colour: str = "") -> None:
    """Stop what was started beside the live release and never led to: no worker, which is started after the swap."""
    for unit in instances.of(app, colour or idle_colour(app)):
        if unit.socket:
            end_beside(unit, warn)


def end_beside(
    unit: Unit,
    warn: Callable[[str], None],
    stop: Callable[[Unit, SystemdUnit], None] = lambda _, manager: manager.stop(),
) -> ReleaseError | None:
    """Stop an instance that is not to run; that it goes on is a warning, and of a worker it is returned.

    What takes no tasks only finishes what it began. Of a worker that systemd tells nothing about, nobody has seen that
    it ended.
    """
    manager = instances.systemd_unit(unit)
    try:
        if not manager.is_down():
            stop(unit, manager)
    except ReleaseError as error:
        if unit.socket or _has_ended(manager):
            warn(f"{error.message}; it may run beside the live release: {manager.stop_command()}")
            return None
        found = UnitsNotRestarted(
            f"{error.message}; it goes on taking tasks with another release's code", remedy=manager.stop_command(),
            details=error.details,
        )  # fmt: skip
        found.exit_code = 21
        return found
    return None


def _has_ended(manager: SystemdUnit) -> bool:
    """Nothing of it runs, and that was seen."""
    with suppress(ReleaseError):
        return not manager.state().running
    return False


def idle_colour(app: App) -> str:
    """The colour that does not serve."""
    return slots.other(instances.serves(app))


def beside(app: App) -> str:
    """What runs beside the live release, for a `site:` line; "" for nothing that is known of.

    That is what visitors are led to where a person has moved `current`, else what was not stopped.
    """
    with suppress(ReleaseError):
        colour = instances.active(app) or instances.led_to(app)
        idle = instances.of(app, slots.other(colour)) if colour else []
        up = [unit.name for unit in idle if not instances.systemd_unit(unit).is_down()]
        still = f"; {', '.join(up)} still {'run' if len(up) > 1 else 'runs'} beside it" if up else ""
        return instances.but_serves(app) or still
    return ""


START_BESIDE = Step("start-beside", "start the release beside the live one, and prove it", Scope.SITE, start_beside)
START_WORKERS = Step("start-workers", "start what takes work by itself", Scope.SITE, start_workers)
STOP_BEFORE = Step("stop-before", "stop the instance that served before", Scope.SITE, stop_before)
