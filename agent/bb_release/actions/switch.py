"""The last third of the pipeline: link, restart, verify, and the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from bb_release.actions import handover, instances, interruption, proof, static, static_pool
from bb_release.actions.run import Run, environments, health_now
from bb_release.actions.site_commands import tell
from bb_release.actions.verify import remembered_units, restart_units, verify
from bb_release.errors import ReleaseError
from bb_release.model import activation, durable, hold, slots
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.layout import Layout
from bb_release.model.manifest import State
from bb_release.model.release import Release
from bb_release.model.step import Deployment, Scope, Step, as_failure, do_each, run_steps
from bb_release.tools import stage


def activate(deployment: Deployment) -> None:
    """The manifest says what is about to happen; then the link moves, in one rename."""
    static_pool.keep_reachable(deployment)
    release, layout = deployment.release, deployment.layout
    previous = deployment.previous.name if deployment.previous else ""

    def announce() -> None:
        deployment.release = release.mark(
            State.ACTIVATING, before=str(release.state), previous=previous, makes_bad=deployment.makes_bad,
            switch_back=deployment.switch_back, units=remembered_units(deployment.app),
        )  # fmt: skip

    durable.with_reserve(layout.reserve, announce)
    point_current_at(deployment.app, deployment.release)
    if instances.templates(deployment.app) and len(slots.leading(layout)) > 1:
        handover.take_over(deployment)  # it was started beside itself


def point_current_at(app: App, release: Release) -> None:
    def move() -> None:
        activation.stage_current(app.layout, release)
        activation.swap_current(app.layout)

    durable.with_reserve(app.layout.reserve, move)
    handover.lead_requests(app)


ACTIVATE = Step("activate", "point current at the release", Scope.SITE, activate)
PROVE = (
    Step("publish-static", "collect static files that lie outside of the release", Scope.SITE, static.publish_static),
    Step("restart-units", "restart the units of the app", Scope.SITE, restart_units),
    Step("verify", "prove that the site runs from the release", Scope.SITE, verify),
)
SWITCH = (ACTIVATE, *PROVE)


def steps_of(app: App) -> tuple[Step, ...]:
    """The steps of a switch; a blue-green handover has some around them, and one when all is recorded."""
    if not instances.templates(app):
        return SWITCH
    return (handover.START_BESIDE, ACTIVATE, handover.START_WORKERS, *PROVE)


def make_live(deployment: Deployment, run: Run) -> None:
    """Switch to the release, prove it, and go back by oneself when it is not well.

    Raises ReleaseError: exit code 1 (4 after migrate) when the link never moved, 20 when switched back,
    21 when a person is needed.
    """
    interruption.defer_from_now_on()
    stage.end()  # what starts now may need the memory, and only the site's own may run from the release
    try:
        run_steps(steps_of(deployment.app), deployment)
    except ReleaseError as error:
        # asked of the step: a person may have moved the link back meanwhile, and what is live may be started anew
        if deployment.failed_step is handover.START_BESIDE:
            raise
        if deployment.failed_step is ACTIVATE and not has_moved(deployment):
            handover.stop_idle(deployment.app, deployment.reporter.warn)
            undo_announcement(deployment)
            raise
        go_back(deployment, run, error)
    record_verified(deployment, run)
    run.done = f"the {run.action} itself is done"
    end_what_was_before(deployment)


def has_moved(deployment: Deployment) -> bool:
    """Has this switch moved the link? It may have led there before; what moves it is announced first."""
    release = deployment.release
    return release.state is State.ACTIVATING and activation.current_name(deployment.layout) == release.name


def end_what_was_before(deployment: Deployment) -> None:
    """Stop the instance that served before, and name what else is not of the release, which is live and recorded.

    That is a shell in an old release, a worker of no unit. What goes wrong is `unfinished`, for who ends the run.
    """
    try:
        if instances.templates(deployment.app):
            run_steps((handover.STOP_BEFORE,), deployment)
        for text in proof.stragglers(deployment.app, deployment.release):
            deployment.reporter.warn(text)
    except ReleaseError as error:
        deployment.unfinished = deployment.unfinished or error


def undo_announcement(deployment: Deployment) -> None:
    """The link never moved: the release is again what it was."""
    release = releases.read(deployment.release.folder)
    if release.state is State.ACTIVATING:

        def write() -> None:
            back = State(release.manifest.before or State.READY)
            deployment.release = release.mark(back, before="", previous="", makes_bad="")

        durable.with_reserve(deployment.layout.reserve, write)


def record_verified(deployment: Deployment, run: Run) -> None:
    """The release is live and good. Raises ReleaseError, which says that it is so all the same."""
    try:
        _record(deployment, run)
    except ReleaseError as error:
        error.exit_code = 21
        error.site = f"live on {deployment.release.describe()}, verified, but that could not be recorded"
        raise


def _record(deployment: Deployment, run: Run) -> None:
    """The release is live and good; a rollback's left release becomes bad; a way back holds the timers.

    The hold comes first and what was left last: a run that ends in between is recovered from, and does both again.
    """
    release, layout = deployment.release, deployment.layout
    everything, _ = releases.readable(layout)
    activated = {
        "sequence": releases.next_sequence(everything),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "previous": release.manifest.previous,
    }

    def write() -> None:
        deployment.release = release.mark(
            State.VERIFIED, before="", previous="", failure={}, proof=deployment.proof, proven=deployment.proven,
            activations=[*release.manifest.activations, activated],
        )  # fmt: skip
        deployment.release = condemn_what_was_left(deployment.release, everything)

    # a person may have moved `current` from what served, which is the way back
    left = [r for r in everything if r.name in (release.manifest.previous, run.facts.get("from"))]
    if any(release.manifest.sequence < each.manifest.sequence for each in left):
        act = "rollback" if release.manifest.makes_bad else "switch"
        why = f": {run.reason}" if run.reason and run.action == act else ""
        hold_timers(run, f"{act} to {release.name}{why}")
    durable.with_reserve(layout.reserve, write)


def condemn_what_was_left(release: Release, everything: list[Release]) -> Release:
    """The last act of a rollback. Its manifest names the bad one until that is done."""
    if not release.manifest.makes_bad:
        return release
    for left in everything:
        if left.name == release.manifest.makes_bad:
            left.mark(State.BAD)
    return release.mark(makes_bad="")


def hold_timers(run: Run, reason: str) -> None:
    layout = run.app.layout
    durable.with_reserve(
        layout.reserve, lambda: hold.place(layout, who=run.who, reason=run.log.mask(reason), by_hand=False)
    )


def go_back(deployment: Deployment, run: Run, error: ReleaseError) -> None:
    """Switch back to what was live and good, restart, verify that; then raise `error` with what became of it."""
    bad, previous = deployment.release, deployment.previous
    step = deployment.failed_step.name if deployment.failed_step else "verify"
    failure = {"code": error.code, "step": step, "message": run.log.mask(error.message)}
    layout = deployment.layout
    if previous is None or not deployment.switch_back:
        error.exit_code = 21
        why = "there is nothing to go back to" if previous is None else "told not to switch back"
        there: Release | None = bad
        with suppress(ReleaseError):
            there = activation.current(layout)  # a person may have moved it meanwhile
        now = f"{there.describe()}, {health_now(deployment.app, there)}" if there else "nothing"
        error.site = f"live on {now}; {why}{handover.beside(deployment.app)}"
        with _recording(error, layout):
            durable.with_reserve(layout.reserve, lambda: _mark(bad, State.BAD, failure))
        raise error
    deployment.reporter.say(f"{error.message}: going back to {previous.describe()}")
    try:
        site, build_env, _ = environments(deployment.app, previous)
        back = Deployment(deployment.app, previous, None, deployment.reporter, deployment.lock, site, build_env)
        durable.with_reserve(layout.reserve, lambda: _mark(bad, State.RETURNING, failure))
        handover.bring_back(deployment.app, previous)
        point_current_at(deployment.app, previous)
        serve_again(back)
        durable.with_reserve(layout.reserve, lambda: note_proof(back))
    except (ReleaseError, OSError) as unexpected:
        second = as_failure(unexpected)
        error.tell_also(second)
        error.exit_code = 21
        live = activation.current_name(layout)
        failed = f"the way back to {previous.describe()} failed: {second.message}"
        error.site = f"live on {live}; {failed}{handover.beside(deployment.app)}"
        again = "bb-release restart" if live == previous.name else f"bb-release switch {previous.name}"
        error.remedy = f"{second.remedy}; then: {again}; or deploy what mends it"
        with _recording(error, layout):
            condemn(bad, run, failure)  # a person's turn: no later run, and no timer, tries the same again by itself
        raise error from second
    error.exit_code = 20
    now = health_now(deployment.app, previous)
    error.site = f"switched back to {previous.describe()}, {now}{database_ahead(bad)}"
    with _recording(error, layout):
        condemn(bad, run, failure)
    run.facts.update(switched_back_to=previous.name)
    try:
        handover.stop_before(back)
    except (ReleaseError, OSError) as unexpected:
        error.tell_also(as_failure(unexpected))
    if back.unfinished:
        error.tell_also(back.unfinished)
        error.exit_code, error.remedy = 21, f"{back.unfinished.remedy}; then: {error.remedy}"
        error.site += f"; a worker of {bad.name} goes on taking tasks"
    back.failed_step = deployment.failed_step
    deployment.went_back = True
    tell(back, "after-rollback")
    raise error


def serve_again(deployment: Deployment) -> None:
    """What follows the link on the way back: each part, though another fails. Raises the first failure, with all."""
    do_each([
        partial(static.publish_static, deployment),
        *(partial(restart_units, deployment, unit.name) for unit in instances.serving(deployment.app)),
        partial(handover.bring_workers_back, deployment),
    ])  # fmt: skip
    verify(deployment)


@contextmanager
def _recording(error: ReleaseError, layout: Layout) -> Iterator[None]:
    """Where what became of a switch cannot be recorded, that is told too: `recover` then does it all again."""
    try:
        yield
    except (ReleaseError, OSError) as unexpected:
        second = as_failure(unexpected)
        error.tell_also(second)
        error.exit_code = 21
        held = os.path.exists(layout.hold)  # noqa: PTH110 - Path's own raises where the folder cannot be looked into
        who = "the next run" if held else "the next run, a timer's too,"
        error.site += f"; but that could not be recorded: {who} begins with it again"
        # prune, which the usual remedy for a full disk names, would begin with it as well
        remedy = durable.FREE if second.remedy == durable.MAKE_ROOM else second.remedy
        error.remedy = remedy if durable.RECOVER in remedy else f"{remedy}, then run: {durable.RECOVER}"


def condemn(bad: Release, run: Run, failure: dict[str, str]) -> None:
    """It was live and is not good. The hold first: a run that ends here is recovered from, and does both again."""
    hold_timers(run, f"release {bad.name} was not well: {failure['message']}")
    durable.with_reserve(run.app.layout.reserve, lambda: _mark(bad, State.BAD, failure))


def note_proof(back: Deployment) -> None:
    releases.read(back.release.folder).mark(proof=back.proof, proven=back.proven)


def _mark(release: Release, state: State, failure: dict[str, str]) -> None:
    releases.read(release.folder).mark(state, failure=failure, before="", makes_bad="")


def database_ahead(release: Release) -> str:
    """What the way back did not take with it."""
    applied = release.manifest.migrations
    return f"; the database keeps {', '.join(applied)}" if applied else ""
