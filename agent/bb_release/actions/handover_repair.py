"""Blue-green after a killed run, or a boot: what `current` leads to serves again, and nothing else does.

Not where visitors are led to another release, which runs: a person has moved `current`, and nobody has proven to what.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

from bb_release.actions import handover, instances, moved, workers
from bb_release.actions.audit_beside import beside, twice
from bb_release.actions.proof import standing
from bb_release.actions.run import Run, environments
from bb_release.actions.verify import prove_run, require_running, require_stable, unfit
from bb_release.errors import ReleaseError
from bb_release.model import activation, durable, slots
from bb_release.model.app import App, Unit
from bb_release.model.step import Deployment
from bb_release.tools import host


def repair(run: Run) -> tuple[list[str], list[ReleaseError]]:
    """After a killed run and after a boot: the links, the slots and the instances as `current` wants them.

    Returns what was done, in words, and what a person has to know: what does not run, why what was started is not
    proven to run from the live release, and what runs from another. What else cannot be done is a warning: it must not
    stop the deploy that mends it.
    """
    order = Repair(run)
    if instances.templates(run.app):
        try:
            order.restore()
        except ReleaseError as error:
            order.wrong.append(error)
    return order.done, order.wrong


@dataclass
class Repair:
    """One repair under way."""

    run: Run
    done: list[str] = field(default_factory=list)
    wrong: list[ReleaseError] = field(default_factory=list)
    told: dict[str, float | None] = field(default_factory=dict)  # when each was told to start, on the boot clock

    @property
    def app(self) -> App:
        return self.run.app

    def warn(self, text: str) -> None:
        self.run.log.warn(text)

    def restore(self) -> None:
        moved.require_not(self.app)
        colour = instances.active(self.app) or self._slot_after_a_boot()
        if colour:
            self._have_serve(colour)
        else:  # no release was ever live in a slot
            self._stop([each for unit in instances.templates(self.app) for each in instances.both(unit)])

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
        """Have all of a colour run, visitors first, and then nothing of the other one."""
        app, idle = self.app, slots.other(colour)
        ours = instances.of(app, colour)
        web = [unit for unit in ours if unit.socket]
        for unit in web:
            self._start(unit)
        try:
            handover.lead_requests(app)
        except ReleaseError as error:
            self.wrong.append(error)
        for unit in web:
            self._is_proven(unit)
        left = False
        for unit in ours:
            other = instances.twin(unit)
            if unit.socket or (self._start(unit) and self._is_proven(unit)):
                self._stop([other])
            elif not instances.systemd_unit(other).is_down():
                left = True
                self.warn(f"{other.name} is left as it is: {unit.name}, which is to take its place, is not well")
        if not left and slots.release_in(app.layout, idle) == slots.release_in(app.layout, colour):
            durable.with_reserve(app.layout.reserve, lambda: slots.forget(app.layout, idle))

    def _start(self, unit: Unit) -> bool:
        """Start an instance that does not run. Returns False, and notes why, when that failed."""
        manager = instances.systemd_unit(unit)
        try:
            if manager.state().running:
                return True
            alone = instances.systemd_unit(instances.twin(unit)).is_down()
            for refusal in unfit(self.app, unit, twice if alone else beside):
                raise refusal
            # one that is being started, as at boot, was told to before
            told = host.boot_clock() if manager.is_down() else None
            manager.start()
        except ReleaseError as error:
            self.wrong.append(error)
            return False
        self.told[unit.name] = told
        self.done.append(f"{unit.name}: did not run, started")
        return True

    def _is_proven(self, unit: Unit) -> bool:
        """Whether it runs from the live release, for all that is seen; notes why it does not.

        Asked of what was started now, and of a worker beside which another one works.
        """
        live = activation.current(self.app.layout)
        manager, started = instances.systemd_unit(unit), unit.name in self.told
        try:
            alone = bool(unit.socket) or instances.systemd_unit(instances.twin(unit)).is_down()
            if live is None or (alone and not started):
                return True
            state = require_running(unit, manager)
            if not alone:
                time.sleep(unit.settle_seconds)  # the other one takes the tasks meanwhile
            if started:
                prove_run(self.app, unit, manager, live, state, self.told[unit.name])
            else:
                standing(self.app, unit, manager, live.folder, state)
            require_stable(unit, manager, state)
            if unit.celery and not alone:
                site, build_env, secrets = environments(self.app, live)
                self.run.log.add_secrets(secrets)
                deployment = Deployment(self.app, live, None, self.run.log, self.run.lock, site, build_env)
                workers.require_answer(deployment, unit, manager, partial(require_stable, unit, manager, state))
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
            try:
                stop(unit)
            except ReleaseError as error:
                self.wrong.append(error)
