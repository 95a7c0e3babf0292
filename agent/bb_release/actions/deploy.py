"""Put one revision of the app live, or leave the site as it was. The file to read first."""

from __future__ import annotations

import shlex

from bb_release.actions import build, interruption, migrations, requirements, signed, source, static
from bb_release.actions.outcome import after, explain, nothing_to_do
from bb_release.actions.preflight import preflight, preflight_units
from bb_release.actions.run import Run
from bb_release.actions.switch import SWITCH, make_live
from bb_release.actions.wanted import python_changed
from bb_release.actions.wish import Wish, begin, resumable
from bb_release.errors import Explained, Held
from bb_release.model import activation, hold
from bb_release.model.app import App
from bb_release.model.release import Release
from bb_release.model.step import Scope, Step, run_steps

BUILD = (
    Step("require-shared", "are the shared files there?", Scope.RELEASE, build.require_shared),
    Step("checkout", "export the revision into the release", Scope.RELEASE, source.checkout),
    Step("create-environment", "make a fresh virtual environment", Scope.RELEASE, build.create_environment),
    Step("install-requirements", "install the requirements", Scope.RELEASE, requirements.install_requirements),
    Step("link-shared", "link shared files and folders", Scope.RELEASE, build.link_shared),
    Step("check-django", "manage.py check, import the application", Scope.RELEASE, build.check_django),
    Step("collect-static", "manage.py collectstatic", Scope.RELEASE, static.collect_static),
    Step("plan-migrations", "which migrations are pending", Scope.RELEASE, migrations.plan_migrations),
    Step("finish-build", "make the release durable", Scope.RELEASE, build.finish_build),
)
MIGRATE = (
    Step("migrate", "manage.py migrate", Scope.DATABASE, migrations.migrate),
    Step("rehearse", "the new code answers the health request", Scope.DATABASE, build.rehearse),
)
STEPS = (*BUILD, *MIGRATE, *SWITCH)


def deploy(run: Run, wish: Wish) -> Release:
    """Put one revision live. Raises Explained, with the state of the site in it."""
    app, layout = run.app, run.app.layout
    run.is_for_live = not wish.build_only
    require_not_held(app, wish)
    if wish.archive:
        signed.require_no_archive(app)
    live = activation.current(layout)
    resumed = resumable(app, wish, live) if wish.resume else None
    preflight(app, run, keep=resumed)
    ref, revision = source.choose(run, wish.ref, wish.archive)
    run.facts.update({"from": live.name if live else "", "ref": ref, "revision": revision})
    done = live and live.is_verified_for(revision, app.shape) and not python_changed(app, live)
    if live and done and not wish.force and not wish.build_only and not resumed:
        return nothing_to_do(run, live, wish)
    signed.require_signed(run, revision)
    if not wish.build_only:
        preflight_units(app, live, run.log.warn)
    interruption.hold_back()
    deployment = begin(run, wish, ref, revision, live, resumed)
    run.facts["built" if wish.build_only else "to"] = deployment.release.name
    run.log.say(f"release {deployment.release.name} from {ref} ({revision[:7]})")
    try:
        interruption.let_come()
        run_steps(interruption.heeded(BUILD), deployment)
        if wish.build_only:
            run.log.say(f"built: {way_to_live(deployment.release, wish)} makes it live")
            return deployment.release
        interruption.heed()
        deployment.scope = Scope.DATABASE
        run_steps(MIGRATE, deployment)
        interruption.heed()
        deployment.scope = Scope.SITE
        make_live(deployment, run)
    except Explained as error:
        interruption.defer_from_now_on()
        explain(run, wish, deployment, error)
        raise
    after(run, deployment, wish)
    if deployment.unfinished:
        raise deployment.unfinished
    return deployment.release


def way_to_live(release: Release, wish: Wish) -> str:
    """What a person types to make live what was only built."""
    if not release.manifest.facts.get("pending"):
        return f"bb-release switch {release.name}"
    if wish.archive:
        return f"bb-release deploy --archive {shlex.quote(str(wish.archive))}"
    ref = f" {shlex.quote(wish.ref)}" if wish.ref else ""
    return f"bb-release deploy{ref} --resume {release.name}"


def require_not_held(app: App, wish: Wish) -> None:
    """A hold that a person typed stops everyone; one that a run placed stops timers only."""
    held = hold.read(app.layout)
    if held and not wish.force and (held.get("by_hand") or wish.if_changed):
        raise Held(
            f"held by {held.get('who')} since {held.get('since')}: {held.get('reason')}",
            remedy="bb-release unhold, or once only: bb-release deploy --force",
        )
