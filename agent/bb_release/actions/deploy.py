"""Put one revision of the app live, or leave the site as it was. The file to read first."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bb_release import __version__
from bb_release.actions import build, interruption, prune, requirements, static, timer
from bb_release.actions.preflight import preflight, preflight_units
from bb_release.actions.run import Run, environments, site_state
from bb_release.actions.site_commands import last_lines, run_commands, tell
from bb_release.actions.source import access_of
from bb_release.actions.status import started_before_environment
from bb_release.actions.switch import SWITCH, make_live
from bb_release.errors import (
    Held,
    Interrupted,
    MigrateFailed,
    NotNow,
    ReleaseError,
    ReleaseNotUsable,
)
from bb_release.model import activation, durable, hold
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.release import Release, State
from bb_release.model.step import Deployment, Scope, Step, run_steps
from bb_release.tools import django, mirror, stage
from bb_release.tools.process import ProcessFailed


@dataclass(frozen=True)
class Wish:
    """What the command line asked for."""

    ref: str = ""
    if_changed: bool = False
    force: bool = False
    build_only: bool = False
    switch_back: bool = True
    resume: str = ""


def migrate(deployment: Deployment) -> None:
    """Skipped when nothing is pending. The first signal is told what is waited for, the second interrupts."""
    pending = deployment.release.manifest.facts.get("pending") or build.ask_migrations(deployment)["pending"]
    if not pending:
        return
    run_commands(deployment, "before-migrate")
    try:
        with interruption.policy("migrate"):
            django.manage(
                build.project_of(deployment), *django.MIGRATE,
                timeout_seconds=deployment.app.timeouts.migrate, low_priority=False,
            )  # fmt: skip
    except (ProcessFailed, Interrupted) as error:
        left = set(build.ask_migrations(deployment)["pending"])
        applied = [name for name in pending if name not in left]
        deployment.release = deployment.release.mark(migrations=applied)
        raise MigrateFailed(
            f"manage.py migrate {error.reason if isinstance(error, ProcessFailed) else 'was interrupted'}",
            details=last_lines(error.output) if isinstance(error, ProcessFailed) else "",
            remedy="correct the migration and push, then run: bb-release deploy (what is applied is not run again)",
        ) from error
    stage.end()  # what is loaded may have looked at the database as it was
    deployment.release = deployment.release.mark(migrations=pending)
    run_commands(deployment, "after-migrate")


BUILD = (
    Step("require-shared", "are the shared files there?", Scope.RELEASE, build.require_shared),
    Step("checkout", "export the revision into the release", Scope.RELEASE, build.checkout),
    Step("create-environment", "make a fresh virtual environment", Scope.RELEASE, build.create_environment),
    Step("install-requirements", "install the requirements", Scope.RELEASE, requirements.install_requirements),
    Step("link-shared", "link shared files and folders", Scope.RELEASE, build.link_shared),
    Step("check-django", "manage.py check, import the application", Scope.RELEASE, build.check_django),
    Step("collect-static", "manage.py collectstatic", Scope.RELEASE, static.collect_static),
    Step("plan-migrations", "which migrations are pending", Scope.RELEASE, build.plan_migrations),
    Step("finish-build", "make the release durable", Scope.RELEASE, build.finish_build),
)
MIGRATE = (
    Step("migrate", "manage.py migrate", Scope.DATABASE, migrate),
    Step("rehearse", "the new code answers the health request", Scope.DATABASE, build.rehearse),
)
STEPS = (*BUILD, *MIGRATE, *SWITCH)


def deploy(run: Run, wish: Wish) -> Release:
    """Put one revision live. Raises ReleaseError, with the state of the site in it."""
    app, layout = run.app, run.app.layout
    require_not_held(app, wish)
    live = activation.current(layout)
    preflight(app, run)
    run.log.say(f"fetch {app.repository}")
    mirror.fetch(
        app.repository, layout.mirror, access_of(app), timeout_seconds=app.timeouts.fetch,
        on_line=run.log.line, pass_fds=(run.lock,),
    )  # fmt: skip
    ref = wish.ref or app.branch
    revision = mirror.resolve(layout.mirror, ref)
    run.facts.update({"from": live.name if live else "", "ref": ref, "revision": revision})
    done = live and live.is_verified_for(revision, app.shape) and not requirements.python_changed(app, live)
    if live and done and not wish.force and not wish.build_only:
        run.log.say(f"nothing to do: {live.describe()} is live and verified")
        for name in started_before_environment(app):
            run.log.warn(f"{name} was started before {app.env_file} changed: bb-release restart takes it up")
        return live
    if not wish.build_only:
        preflight_units(app, live, revision, if_changed=wish.if_changed)
    deployment = begin(run, wish, ref, revision, live)
    run.facts["to"] = deployment.release.name
    run.log.say(f"release {deployment.release.name} from {ref} ({revision[:7]})")
    try:
        run_steps(BUILD, deployment)
        if wish.build_only:
            run.log.say(f"built: bb-release switch {deployment.release.name} makes it live")
            return deployment.release
        deployment.scope = Scope.DATABASE
        run_steps(MIGRATE, deployment)
        deployment.scope = Scope.SITE
        make_live(deployment, run)
    except ReleaseError as error:
        explain(run, wish, deployment, error)
        raise
    after(run, deployment, wish)
    return deployment.release


def require_not_held(app: App, wish: Wish) -> None:
    """A hold that a person typed stops everyone; one that a run placed stops timers only."""
    held = hold.read(app.layout)
    if held and not wish.force and (held.get("by_hand") or wish.if_changed):
        raise Held(
            f"held by {held.get('who')} since {held.get('since')}: {held.get('reason')}",
            remedy="bb-release unhold, or once only: bb-release deploy --force",
        )


def begin(run: Run, wish: Wish, ref: str, revision: str, live: Release | None) -> Deployment:
    """A new release's folder, or the failed one that is to be resumed."""
    app = run.app
    if wish.resume:
        release = releases.find(app.layout, wish.resume, live)
        same = (release.manifest.revision, release.manifest.shape) == (revision, app.shape)
        if release.state not in (State.FAILED, State.READY) or not same:
            raise ReleaseNotUsable(
                f"release {release.describe()} cannot be resumed: it is {release.state}"
                + ("" if same else ", and revision or configuration have changed since"),
                remedy="bb-release deploy builds a new one",
            )
        release = release.mark(State.BUILDING if release.state is State.FAILED else None, failure={})
    else:
        release = releases.begin(
            app.layout, ref=ref, revision=revision, shape=app.shape, agent=__version__, reason=run.reason
        )
    site, build_env, secrets = environments(app, release)
    run.log.add_secrets(secrets)
    return Deployment(
        app, release, live if live and live.is_good else None, run.log, run.lock, site, build_env,
        switch_back=wish.switch_back,
    )  # fmt: skip


def explain(run: Run, wish: Wish, deployment: Deployment, error: ReleaseError) -> None:
    """Fill the site line and the exit code from the scope of what failed, and note it in the manifest."""
    step = deployment.failed_step.name if deployment.failed_step else ""
    error.log = f"bb-release log {deployment.release.name}"
    run.facts["step"] = step
    known = timer.note_failure(run.app, deployment.release.manifest.revision, error.code)
    error.told_before = known and wish.if_changed
    release = releases.read(deployment.release.folder)
    if error.exit_code == 20:  # switched back: that has been told, to after-rollback too
        return
    if error.site:  # the switch has told already
        tell(deployment, "after-failure")
        return
    if deployment.scope is Scope.RELEASE:
        error.site = f"{site_state(run.app)}; nothing live was changed"
    else:
        error.exit_code = error.exit_code if isinstance(error, NotNow) else 4
        applied = release.manifest.migrations
        database = f"applied to the database: {', '.join(applied)}" if applied else "no migration was applied"
        error.site = f"{site_state(run.app)}; {database}"
    failure = {"code": error.code, "step": step, "message": run.log.mask(error.message)}
    state = State.FAILED if release.state is State.BUILDING else None
    try:
        durable.with_reserve(run.app.layout.reserve, lambda: _note(release, state, failure))
    except ReleaseError as second:
        run.log.warn(second.message)
    tell(deployment, "after-failure")


def _note(release: Release, state: State | None, failure: dict[str, str]) -> None:
    release.mark(state, failure=failure)


def after(run: Run, deployment: Deployment, wish: Wish) -> None:
    """What follows a success; a failure here is a warning, the deploy has succeeded."""
    app = run.app
    timer.forget(app)
    if wish.ref and wish.ref != app.branch:
        reason = f"{wish.ref} was deployed, not the branch {app.branch}"
        hold.place(app.layout, who=run.who, reason=reason, by_hand=False)
    elif not wish.if_changed:
        hold.lift(app.layout)
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
