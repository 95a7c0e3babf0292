"""Finish or undo what a killed run left. A function of the link and the manifests; a second crash is harmless."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bb_release.actions import handover, handover_repair, interruption, package_sets, prune
from bb_release.actions.run import Run, environments, site_state
from bb_release.actions.static import publish_static
from bb_release.actions.switch import (
    condemn_what_was_left,
    end_what_was_before,
    go_back,
    record_verified,
    undo_announcement,
)
from bb_release.actions.verify import restart_units, verify
from bb_release.errors import NotHealthy, ReleaseError
from bb_release.model import activation, durable
from bb_release.model import release as releases
from bb_release.model.durable import STAGING
from bb_release.model.manifest import MANIFEST, State
from bb_release.model.release import Release
from bb_release.model.retention import Verdict
from bb_release.model.step import Deployment, as_failure


def recover(run: Run) -> list[str]:
    """Repair, under the lock, whatever an earlier run did not finish; returns what was done, in words.

    Raises Interrupted when a signal came meanwhile, and this is not all that the run is for.
    """
    with interruption.policy("recover"):
        done = _put_in_order(run)
    asked = interruption.asked_to_end()
    if asked and run.action != "recover":
        was_done = f"recovered: {'; '.join(done)}" if done else "nothing live was changed"
        asked.site = f"{site_state(run.app)}; {was_done}"
        raise asked
    return done


def recover_and_prune(run: Run, keep: int | None = None) -> list[Verdict]:
    """What is left is put in order, then old releases go; the other way round where that needs the room of theirs."""
    try:
        recover(run)
    except ReleaseError as error:
        if not error.remedy.startswith(durable.FREE):
            raise
        run.log.warn(f"{error.message}: room is made first")
        verdicts = prune.prune(run, keep)
        if not recover(run):
            raise  # it had come to its end: how it ended is news
        return verdicts
    return prune.prune(run, keep)


def _put_in_order(run: Run) -> list[str]:
    layout = run.app.layout
    activation.current(layout)  # where it cannot be read, nothing is touched: a person is needed
    layout.staged_current.unlink(missing_ok=True)
    for folder in (layout.state, layout.reserve):
        durable.remove_staged(folder)
    package_sets.remove_leftovers(layout)
    live = activation.current_name(layout)
    done = prune.remove_leftovers(layout, run.log.warn)
    everything, broken = releases.readable(layout)
    for name, reason in broken.items():
        if _is_empty(layout.releases / name) and name != live:
            # the run ended between the folder and its manifest: there is nothing in it
            prune.remove(layout, [name], run.log.warn)
            done.append(f"{name}: had just been begun, removed")
            continue
        run.log.warn(f"release {name} cannot be used: {reason.message}")
    for release in everything:
        durable.remove_staged(release.folder)
        if release.state is State.BUILDING:
            failure = {"code": "interrupted", "message": "the run that built it ended before it was done"}
            durable.with_reserve(layout.reserve, partial(release.mark, State.FAILED, failure=failure))
            done.append(f"{release.name}: was being built, now failed")
        elif release.state in (State.ACTIVATING, State.RETURNING):
            done.append(finish_switch(run, release, everything, live))
        elif release.manifest.makes_bad:
            durable.with_reserve(layout.reserve, partial(condemn_what_was_left, release, everything))
            done.append(f"{release.manifest.makes_bad}: a rollback had left it, now bad")
    repaired, wrong = handover_repair.repair(run)
    done += repaired
    for text in done:
        run.log.say(f"recovered: {text}")
    outcome = wrong.pop() if wrong and run.action == "recover" else None  # what else a run is for may mend it
    for error in wrong:
        run.log.warn("\n    ".join([error.message, *error.details.splitlines(), error.remedy]))
    if outcome:
        outcome.exit_code = 21
        outcome.site = "; ".join([site_state(run.app), *([f"recovered: {'; '.join(done)}"] if done else [])])
        raise outcome
    return done


def _is_empty(folder: Path) -> bool:
    """Nothing but a manifest that was being written; not what is closed to us, or no folder."""
    try:
        return {entry.name for entry in folder.iterdir()} <= {f".{MANIFEST}{STAGING}"}
    except OSError:
        return False


def finish_switch(run: Run, release: Release, everything: list[Release], live: str) -> str:
    """Go on from where the switch was: forward when the link had moved and all is well, else back."""
    previous = next((r for r in everything if r.name == release.manifest.previous), None)
    site, build_env, secrets = environments(run.app, release)
    run.log.add_secrets(secrets)
    deployment = Deployment(
        run.app, release, previous, run.log, run.lock, site, build_env, switch_back=release.manifest.switch_back
    )
    if release.state is State.ACTIVATING and live != release.name:
        undo_announcement(deployment)
        return f"{release.name}: current does not lead to it, it is {deployment.release.state} again"
    try:
        if release.state is State.RETURNING:
            raise NotHealthy(
                f"release {release.name} was being switched back when the run ended",
                remedy="see bb-release history for why",
            )
        handover.bring_back(run.app, release)
        handover.lead_requests(run.app)
        handover.bring_workers_back(deployment)
        publish_static(deployment)
        restart_units(deployment)
        verify(deployment)
    except Exception as error:  # noqa: BLE001 - as in a deploy: the site is not left on what nobody has proven
        return go_on_back(run, deployment, as_failure(error))
    record_verified(deployment, run)
    end_what_was_before(deployment)
    if deployment.unfinished:  # of a worker that goes on the repair will tell
        run.log.warn(f"{deployment.unfinished.message}; {deployment.unfinished.remedy}")
    return f"{release.name}: the switch to it was finished, it is live and verified"


def go_on_back(run: Run, deployment: Deployment, error: ReleaseError) -> str:
    try:
        go_back(deployment, run, error)
    except ReleaseError as outcome:
        if outcome.exit_code != 20:
            raise
        if run.action != "recover":  # which goes on with what it is for
            run.facts.pop("switched_back_to", None)
        return f"{deployment.release.name}: {outcome.site}"
    return ""
