"""The commands that change something, each under the lock and in the journal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bb_release import console
from bb_release.commands import FORCE, JSON, QUIET, REASON, RELEASE, Context, command, completion
from bb_release.errors import Held, LockHeld, NotNow, UsageInvalid

if TYPE_CHECKING:
    from bb_release.model.release import Release


@command(
    "deploy", click.argument("ref", default=""), FORCE, REASON, QUIET, JSON,
    click.option("--if-changed", is_flag=True, help="For timers: silent and 0 when there is nothing to do."),
    click.option("--plan", "only_plan", is_flag=True, help="Say what would be done; do nothing but fetch."),
    click.option("--build-only", is_flag=True, help="Build and prove, touch nothing shared."),
    click.option("--resume", default="", metavar="RELEASE",
                 shell_complete=completion.releases, help="Go on with a build that failed."),
    click.option("--archive", type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
                 metavar="FILE", help="Deploy a tar or zip archive, not the repository."),
    click.option("--no-switch-back", is_flag=True, help="Leave an unhealthy release live."),
    click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=0.0, metavar="SECONDS",
                 help="Wait for another run to end."),
)  # fmt: skip
def deploy(
    context: Context, ref: str, force: bool, reason: str, quiet: bool, as_json: bool,
    if_changed: bool, only_plan: bool, build_only: bool, resume: str, archive: Path | None, no_switch_back: bool,
    wait_seconds: float,
) -> None:  # fmt: skip
    """Put one revision live, or leave the site as it was."""
    from bb_release.actions import timer

    app = context.app()
    if ref:
        from bb_release.tools.git_access import check_ref

        check_ref(ref)
    if if_changed and (ref or force or resume):
        raise UsageInvalid("--if-changed stands alone", remedy="leave out the ref, --force and --resume")
    if archive and (ref or if_changed or resume):
        raise UsageInvalid("--archive stands alone", remedy="leave out the ref, --if-changed and --resume")
    if archive and not archive.name.isprintable():
        raise UsageInvalid("the archive's name has unprintable characters", remedy="give the file another name")
    if only_plan:
        if if_changed or force or build_only or resume or archive or no_switch_back:
            raise UsageInvalid("--plan stands alone", remedy="leave out every other option but --json")
        from bb_release.actions import plan

        facts = plan.plan(app, ref)
        (console.print_json if as_json else console.print_plan)(facts)
        if facts["stops"]:
            raise SystemExit(1)
        return
    if if_changed and timer.nothing_to_do(app):
        return
    from bb_release.actions import deploy as action
    from bb_release.actions import recover, run
    from bb_release.actions.wish import Wish

    wish = Wish(
        ref=ref, if_changed=if_changed, force=force, build_only=build_only, resume=resume,
        archive=archive, switch_back=not no_switch_back,
    )  # fmt: skip
    try:
        with run.changing(
            app,
            "deploy",
            reason=reason,
            quiet=quiet or if_changed or as_json,
            wait_seconds=wait_seconds,
            by_timer=if_changed,
        ) as under_way:
            recover.recover(under_way)
            release = action.deploy(under_way, wish)
    except (LockHeld, Held, NotNow):
        if if_changed:
            return  # under a timer that is no news
        raise
    if as_json:
        print_result(release)


def print_result(release: Release) -> None:
    """What is live now, for a script."""
    facts = {"release": release.name, "revision": release.manifest.revision, "state": str(release.state)}
    tell(console.print_json, facts)


def tell(show: Callable[..., None], *answer: object) -> None:
    """Print when all is done: that nobody reads any more (a closed terminal, a pipe's end) makes it no failure."""
    with suppress(OSError):
        show(*answer)


@command("switch", RELEASE, FORCE, REASON, QUIET, JSON)
def switch(context: Context, release: str, force: bool, reason: str, quiet: bool, as_json: bool) -> None:
    """Make an existing release live."""
    from bb_release.actions import existing as action
    from bb_release.actions import recover, run

    with run.changing(context.app(), "switch", reason=reason, quiet=quiet or as_json) as under_way:
        recover.recover(under_way)
        target = action.switch(under_way, release, force=force)
        under_way.log.say(f"live: {target.describe()}, verified")
    if as_json:
        print_result(target)


@command("rollback", FORCE, REASON, QUIET, JSON)
def rollback(context: Context, force: bool, reason: str, quiet: bool, as_json: bool) -> None:
    """Switch to the last good release before the current one, which becomes bad."""
    from bb_release.actions import existing as action
    from bb_release.actions import recover, run

    with run.changing(context.app(), "rollback", reason=reason, quiet=quiet or as_json) as under_way:
        recover.recover(under_way)
        target = action.rollback(under_way, force=force)
        under_way.log.say(f"live: {target.describe()}, verified")
    if as_json:
        print_result(target)


@command("restart", click.argument("unit", default="", shell_complete=completion.units), REASON, QUIET, JSON)
def restart(context: Context, unit: str, reason: str, quiet: bool, as_json: bool) -> None:
    """Restart and verify the live release."""
    from bb_release.actions import existing as action
    from bb_release.actions import recover, run

    with run.changing(context.app(), "restart", reason=reason, quiet=quiet or as_json) as under_way:
        recover.recover(under_way)
        target = action.restart(under_way, unit)
        under_way.log.say(f"live: {target.describe()}, verified")
    if as_json:
        print_result(target)


@command("recover", QUIET)
def recover(context: Context, quiet: bool) -> None:
    """Finish or undo what a killed run left."""
    from bb_release.actions import recover as action
    from bb_release.actions import run

    with run.changing(context.app(), "recover", quiet=quiet) as under_way:
        if not action.recover(under_way):
            under_way.log.say("nothing to recover")


@command(
    "prune", click.option("--keep", type=click.IntRange(1), help="How many good releases stay."),
    click.option("--dry-run", is_flag=True, help="Only say what would go, and why."), QUIET, JSON,
)  # fmt: skip
def prune(context: Context, keep: int | None, dry_run: bool, quiet: bool, as_json: bool) -> None:
    """Remove what retention lets go, with the reason for each release."""
    from bb_release.actions import prune as action
    from bb_release.actions import recover, run, seen

    app = context.app()
    if dry_run:
        seen.require_sight(app)
        verdicts = action.verdicts(app, keep)
    else:
        with run.changing(app, "prune", quiet=True) as under_way:
            verdicts = recover.recover_and_prune(under_way, keep)
    if as_json:
        tell(console.print_json, [{"release": v.name, "keep": v.keep, "reason": v.reason} for v in verdicts])
    elif not quiet:
        rows = [[v.name, "keep" if v.keep else "remove", v.reason] for v in verdicts]
        tell(console.print_table, ["release", "verdict", "reason"], rows)


def _pin(context: Context, release: str, *, pinned: bool) -> None:
    from bb_release.actions import prune as action
    from bb_release.actions import run

    with run.changing(context.app(), "pin" if pinned else "unpin", quiet=True) as under_way:
        name = action.pin(under_way, release, pinned=pinned)
    tell(console.print_line, f"{name} is {'pinned: prune leaves it alone' if pinned else 'no longer pinned'}")


@command("pin", RELEASE)
def pin(context: Context, release: str) -> None:
    """Protect a release from prune."""
    _pin(context, release, pinned=True)


@command("unpin", RELEASE)
def unpin(context: Context, release: str) -> None:
    """Let prune judge a release again."""
    _pin(context, release, pinned=False)


@command("hold", REASON)
def hold(context: Context, reason: str) -> None:
    """Stop every deploy until `unhold`."""
    from bb_release.actions import run
    from bb_release.model import hold as model

    with run.changing(context.app(), "hold", reason=reason, quiet=True) as under_way:
        layout = under_way.app.layout
        before = (model.read(layout) or {}).get("reason", "no reason given")
        model.place(layout, who=under_way.who, reason=under_way.reason or str(before), by_hand=True)
    tell(console.print_line, "held: no deploy until bb-release unhold")


@command("unhold")
def unhold(context: Context) -> None:
    """Lift a hold."""
    from bb_release.actions import run
    from bb_release.model import hold as model

    with run.changing(context.app(), "unhold", quiet=True) as under_way:
        lifted = model.lift(under_way.app.layout, by_hand=True)
    tell(console.print_line, "no longer held" if lifted else "was not held")
