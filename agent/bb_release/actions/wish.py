"""What the command line asked for, and the release that is begun or resumed for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bb_release import __version__
from bb_release.actions import build, instances
from bb_release.actions.run import Run, environments
from bb_release.errors import ReleaseError, ReleaseNotUsable
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.manifest import State
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from bb_release.tools import host


@dataclass(frozen=True)
class Wish:
    """What the command line asked for."""

    ref: str = ""
    if_changed: bool = False
    force: bool = False
    build_only: bool = False
    switch_back: bool = True
    resume: str = ""
    archive: Path | None = None


def resumable(app: App, wish: Wish, live: Release | None) -> Release:
    """The build that is to be gone on with. Raises NoSuchRelease, ReleaseNotUsable."""
    release = releases.find(app.layout, wish.resume, live)
    if release.state not in (State.FAILED, State.READY):
        raise ReleaseNotUsable(
            f"release {release.describe()} cannot be resumed: it is {release.state}",
            remedy="bb-release deploy builds a new one",
        )
    return release


def begin(run: Run, wish: Wish, ref: str, revision: str, live: Release | None, resumed: Release | None) -> Deployment:
    """A new release's folder, or the failed one that is to be resumed."""
    app = run.app
    everything, _ = releases.readable(app.layout)
    for bad in everything:
        if (bad.state, bad.manifest.revision) == (State.BAD, revision):
            said = bad.manifest.failure.get("message", "a rollback left it")
            run.log.warn(f"this revision was live before, as {bad.name}, and became bad: {said}")
    if resumed:
        if (resumed.manifest.revision, resumed.manifest.shape) != (revision, app.shape):
            raise ReleaseNotUsable(
                f"release {resumed.describe()} cannot be resumed: revision or configuration have changed since",
                remedy="bb-release deploy builds a new one",
            )
        release = build.resumed(resumed)
    else:
        release = releases.begin(
            app.layout, ref=run.log.mask(ref), revision=revision, shape=app.shape, agent=__version__, reason=run.reason,
            boot=host.boot_id(),
        )  # fmt: skip
    try:
        site, build_env, secrets = environments(app, release)
    except ReleaseError as error:  # preflight has read the same files: they have changed since
        if release.state is State.BUILDING:
            release.mark(State.FAILED, failure={"code": error.code, "step": "", "message": run.log.mask(error.message)})
        raise
    run.log.add_secrets(secrets)
    serves = instances.served(app, live)
    previous = serves if serves is None or serves.is_good else releases.last_good(everything)
    return Deployment(
        app, release, previous, run.log, run.lock, site, build_env, switch_back=wish.switch_back,
        archive=wish.archive, newest=wish.force, is_first=not any(r.manifest.activations for r in everything),
    )  # fmt: skip
