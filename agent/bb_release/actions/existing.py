"""What an operator asks of a release that is there: `switch`, `rollback`, `restart`."""

from __future__ import annotations

from bb_release.actions import build, handover, instances, migrations, moved
from bb_release.actions.run import Run, command_to, environments, health_now, not_live
from bb_release.actions.site_commands import tell
from bb_release.actions.switch import end_what_was_before, make_live, note_proof, record_verified
from bb_release.actions.verify import require_fit, require_units, restart_units, verify
from bb_release.errors import Explained, NoSuchRelease, ReleaseNotUsable
from bb_release.model import activation, durable
from bb_release.model import release as releases
from bb_release.model.manifest import State
from bb_release.model.release import Release
from bb_release.model.step import Deployment, Scope, Step, run_steps

REHEARSE_TARGET = (
    Step("plan-migrations", "are its migrations applied?", Scope.SITE, migrations.require_migrated),
    Step("rehearse", "the release answers the health request", Scope.SITE, build.rehearse),
)


def switch(run: Run, word: str, *, force: bool = False) -> Release:
    """Make an existing release live. Raises ReleaseError."""
    live = activation.current(run.app.layout)
    target = releases.find(run.app.layout, word, live)
    return switch_to(run, target, live, force=force, makes_bad="")


def rollback(run: Run, *, force: bool = False) -> Release:
    """Switch to the last good release before the current one, and mark the current one bad."""
    live = activation.current(run.app.layout)
    everything, _ = releases.readable(run.app.layout)
    target = releases.last_good_before(everything, live) if live else None
    if live is None or target is None:
        raise NoSuchRelease(
            "there is no good release to go back to",
            remedy="bb-release list shows what there is; bb-release switch <release> goes to any of them"
            if live
            else "bb-release deploy",
        )
    return switch_to(run, target, live, force=force, makes_bad=live.name)


def switch_to(run: Run, target: Release, live: Release | None, *, force: bool, makes_bad: str) -> Release:
    if live and target.name == live.name and live.state is State.VERIFIED and not instances.elsewhere(run.app):
        from bb_release.actions.outcome import require_well

        require_well(run, live)
        return live
    usable = (State.READY, State.VERIFIED, State.ADOPTED)
    if target.state not in usable and not (force and target.state is State.BAD):
        raise ReleaseNotUsable(
            f"release {target.describe()} is {target.state}",
            remedy="choose another one (bb-release list)"
            + (f"; {command_to(target)} takes it all the same" if target.state is State.BAD else ""),
        )
    require_units(run.app, run.log.warn)
    site, build_env, secrets = environments(run.app, target)
    run.log.add_secrets(secrets)
    served = instances.served(run.app, live)
    run.facts.update({"from": served.name if served else "", "to": target.name})
    back = served if served and served.is_good else live
    if back and back.name == target.name:  # what is started anew is no way back for itself
        everything, _ = releases.readable(run.app.layout)
        back = releases.last_good([release for release in everything if release.name != target.name])
    deployment = Deployment(run.app, target, back, run.log, run.lock, site, build_env, makes_bad=makes_bad)
    run.log.say(f"switch to {target.describe()}")
    run_steps(REHEARSE_TARGET, deployment)
    make_live(deployment, run)
    tell(deployment, "after-verify")
    if makes_bad:
        run.log.say(f"{makes_bad} is bad now: no rollback or timer goes there again")
        tell(deployment, "after-rollback")
    if deployment.unfinished:
        raise deployment.unfinished
    return deployment.release


def restart(run: Run, name: str = "") -> Release:
    """Restart and verify the live release, or one unit of it; what is started beside itself has one slot for all.

    Where a person has moved `current`, and visitors are led to what it led to before, this is a switch.
    """
    live = activation.current(run.app.layout)
    if live is None:
        raise not_live(run.app)
    only = instances.meant(run.app, name) if name else ""
    if only:
        moved.require_not(run.app)
    elif instances.elsewhere(run.app):
        return switch_to(run, live, live, force=False, makes_bad="")
    beside = [unit.name for unit in instances.templates(run.app)]
    anew = bool(beside) and (not only or only in beside)
    site, build_env, secrets = environments(run.app, live)
    run.log.add_secrets(secrets)
    deployment = Deployment(run.app, live, None, run.log, run.lock, site, build_env)
    restarted = beside if only in beside else [only] if only else [unit.name for unit in run.app.units]
    meaning = f": {name} is an instance of {only}" if name != only else ""
    run.log.say(f"restart {', '.join(restarted)}{meaning}")
    if anew:
        require_fit(run.app)
        handover.start_beside(deployment)  # when this fails, nothing live was changed
    try:
        if anew:
            handover.take_over(deployment)
            handover.start_workers(deployment)
        restart_units(deployment, only)
        verify(deployment)
        if live.state is State.BAD:  # it was found wanting, and now it is not
            record_verified(deployment, run)
    except Explained as error:  # a signal too: units may have been stopped
        error.exit_code = 21
        error.site = f"live on {live.describe()}, {health_now(run.app, live)}{handover.beside(run.app)}"
        raise
    run.done = "the restart itself is done"
    durable.with_reserve(run.app.layout.reserve, lambda: note_proof(deployment))
    end_what_was_before(deployment)
    if deployment.unfinished:
        raise deployment.unfinished
    return deployment.release
