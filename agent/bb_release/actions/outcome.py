"""What follows a deploy that ended well, ended badly, or had nothing to do."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from bb_release.actions import package_sets, prune, static_links, timer
from bb_release.actions.run import Run, site_state
from bb_release.actions.site_commands import tell
from bb_release.actions.status import started_before_environment, status
from bb_release.actions.switch import hold_timers
from bb_release.actions.wish import Wish
from bb_release.errors import BugFound, Explained, NotHealthy, NotNow, ReleaseError, StateUnreadable, StorageFailed
from bb_release.model import durable, hold
from bb_release.model import release as releases
from bb_release.model.manifest import State
from bb_release.model.release import Release
from bb_release.model.step import Deployment, Scope


def nothing_to_do(run: Run, live: Release, wish: Wish) -> Release:
    """It is live and verified, and well. Raises NotHealthy."""
    require_well(run, live)
    if not wish.ref and not wish.if_changed:
        hold.lift(run.app.layout, by_hand=False)
    return live


def require_well(run: Run, live: Release) -> None:
    """Of what is live and verified it is asked again whether it is well at this moment. Raises NotHealthy."""
    app = run.app
    facts = status(app, in_a_run=True)
    if not facts["well"]:
        stopped = [f"{unit['name']}: {unit['unproven'] or unit['summary']}" for unit in facts["units"]
                   if not unit["running"] or unit["unproven"]]  # fmt: skip
        beside = [f"{unit['name']}: runs beside the live release: {unit['summary']}" for unit in facts["beside"]]
        ways = dict.fromkeys(each["do"] for each in facts["to_do"])
        error = NotHealthy(
            f"there is nothing to do, {live.describe()} is live, but the site is not well",
            details="\n".join([*stopped, *beside, f"health: {facts['health']}"]),
            remedy="; ".join([*ways, "where that does not help: bb-release check"]),
        )
        error.exit_code = 21
        raise error
    run.log.say(f"nothing to do: {live.describe()} is live and verified")
    for name in started_before_environment(app):
        run.log.warn(
            f"{name} was started before {app.env_file or 'its environment'} changed: bb-release restart takes it up"
        )


def explain(run: Run, wish: Wish, deployment: Deployment, error: Explained) -> None:
    """Fill the site line and the exit code from the scope of what failed, and note it in the manifest."""
    step = deployment.failed_step.name if deployment.failed_step else ""
    run.facts["step"] = step
    try:
        if not isinstance(error, NotNow):  # that is no failure: the next tick asks again
            known = timer.note_failure(run.app, deployment.release.manifest.revision, error.code)
            error.told_before = known and wish.if_changed
    except ReleaseError as second:  # a full disk, or a state file that cannot be read: the first error is the news
        run.log.warn(second.message)
    release = releases.read(deployment.release.folder)
    if release.state is State.BUILDING:
        release = deployment.release  # what it has got to is in memory only
    if deployment.went_back:  # that has been told, to after-rollback too
        return
    if error.site:  # the switch has told already
        tell(deployment, "after-failure")
        return
    if deployment.scope is Scope.RELEASE:
        error.site = f"{site_state(run.app)}; nothing live was changed"
    else:
        error.exit_code = error.exit_code if isinstance(error, NotNow | BugFound | StateUnreadable) else 4
        applied = release.manifest.migrations
        database = f"applied to the database: {', '.join(applied)}" if applied else "no migration was applied"
        if isinstance(error, StorageFailed) and step == "migrate":
            database = "which migrations were applied could not be recorded"
        error.site = f"{site_state(run.app)}; {database}"
    failure = {"code": error.code, "step": step, "message": run.log.mask(error.message)}
    state = State.FAILED if release.state is State.BUILDING else None
    try:
        durable.with_reserve(run.app.layout.reserve, lambda: release.mark(state, failure=failure))
    except ReleaseError as second:
        run.log.warn(second.message)
    tell(deployment, "after-failure")


def after(run: Run, deployment: Deployment, wish: Wish) -> None:
    """What follows a success; a failure here is a warning, the deploy has succeeded."""
    app = run.app
    timer.forget(app)
    if wish.archive or (wish.ref and wish.ref != app.branch):
        reason = f"{wish.archive.name if wish.archive else wish.ref} was deployed, not the branch {app.branch}"
        hold_timers(run, reason)
    elif not wish.if_changed:
        hold.lift(app.layout, by_hand=False)
    tell(deployment, "after-verify")
    try:
        began = time.monotonic()
        gone = [v.name for v in prune.prune(run) if not v.keep]
        run.log.event("pruned", releases=gone, seconds=round(time.monotonic() - began, 3))
        if gone:
            run.log.say(f"pruned {', '.join(gone)}")
    except (ReleaseError, OSError) as error:
        run.log.warn(f"{error}; the deploy itself has succeeded")
    run.log.say(f"live: {deployment.release.describe()}, verified")
    with suppress(OSError):  # a filter of system calls may refuse it
        os.nice(10)  # the next deploy's work
    package_sets.link_ahead(run, deployment.release)
    static_links.link_ahead(run, deployment.release)
