"""Words on the command line -> one action -> text or JSON and an exit code. The only translator of errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bb_release import __version__, console
from bb_release.errors import Held, LockHeld, NotNow, ReleaseError, UsageInvalid
from bb_release.model.app import App

BUG = 3


class Context:
    """What the options before and after the command said."""

    def __init__(self) -> None:
        self.app_name: str | None = None
        self.file: Path | None = None

    def app(self) -> App:
        from bb_release import config

        return config.load(config.find(self.app_name, self.file))


def keep_app(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        held = context.find_root().ensure_object(Context)
        setattr(held, "app_name" if parameter.name == "app_name" else "file", value)


APP = click.option(
    "-a", "--app", "app_name", metavar="APP", help="Which app, when several are configured.",
    expose_value=False, callback=keep_app,
)  # fmt: skip
CONFIG = click.option(
    "--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="The configuration file.",
    expose_value=False, callback=keep_app,
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
REASON = click.option("-m", "--message", "reason", default="", metavar="REASON", help="Why, for the journal.")
QUIET = click.option("--quiet", is_flag=True, help="Print nothing but errors.")
FORCE = click.option("--force", is_flag=True, help="Also when held, already live, or marked bad.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bb-release")
@APP
@CONFIG
@click.pass_context
def command_line(context: click.Context) -> None:
    """Deploy a Django site on the host that serves it."""
    context.ensure_object(Context)


def command(name: str, *options: Callable[..., Any]) -> Callable[..., Any]:
    """A command that also takes -a and --config after its name, and gets the Context."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        wrapped: Any = click.pass_obj(function)
        for option in (CONFIG, APP, *reversed(options)):
            wrapped = option(wrapped)
        return command_line.command(name)(wrapped)

    return wrap


@command(
    "deploy", click.argument("ref", default=""), FORCE, REASON, QUIET, JSON,
    click.option("--if-changed", is_flag=True, help="For timers: silent and 0 when there is nothing to do."),
    click.option("--build-only", is_flag=True, help="Build and prove, touch nothing shared."),
    click.option("--resume", default="", metavar="RELEASE", help="Go on with a build that failed."),
    click.option("--no-switch-back", is_flag=True, help="Leave an unhealthy release live."),
    click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=0.0, metavar="SECONDS",
                 help="Wait for another run to end."),
)  # fmt: skip
def deploy(
    context: Context, ref: str, force: bool, reason: str, quiet: bool, as_json: bool,
    if_changed: bool, build_only: bool, resume: str, no_switch_back: bool, wait_seconds: float,
) -> None:  # fmt: skip
    """Put one revision live, or leave the site as it was."""
    from bb_release.actions import deploy as action
    from bb_release.actions import recover, run, timer

    app = context.app()
    if ref:
        from bb_release.tools.git_access import check_ref

        check_ref(ref)
    if if_changed and (ref or force or resume):
        raise UsageInvalid("--if-changed stands alone", remedy="leave out the ref, --force and --resume")
    if if_changed and timer.nothing_to_do(app):
        return
    wish = action.Wish(
        ref=ref, if_changed=if_changed, force=force, build_only=build_only, resume=resume,
        switch_back=not no_switch_back,
    )  # fmt: skip
    try:
        with run.changing(
            app, "deploy", reason=reason, quiet=quiet or if_changed or as_json, wait_seconds=wait_seconds
        ) as under_way:
            recover.recover(under_way)
            release = action.deploy(under_way, wish)
    except (LockHeld, Held, NotNow):
        if if_changed:
            return  # under a timer that is no news
        raise
    if as_json:
        console.print_json({"release": release.name, "revision": release.manifest.revision})


@command("switch", click.argument("release"), FORCE, REASON, QUIET)
def switch(context: Context, release: str, force: bool, reason: str, quiet: bool) -> None:
    """Make an existing release live."""
    from bb_release.actions import recover, run
    from bb_release.actions import switch as action

    with run.changing(context.app(), "switch", reason=reason, quiet=quiet) as under_way:
        recover.recover(under_way)
        target = action.switch(under_way, release, force=force)
        under_way.log.say(f"live: {target.describe()}, verified")


@command("rollback", FORCE, REASON, QUIET)
def rollback(context: Context, force: bool, reason: str, quiet: bool) -> None:
    """Switch to the last good release before the current one, which becomes bad."""
    from bb_release.actions import recover, run
    from bb_release.actions import switch as action

    with run.changing(context.app(), "rollback", reason=reason, quiet=quiet) as under_way:
        recover.recover(under_way)
        target = action.rollback(under_way, force=force)
        under_way.log.say(f"live: {target.describe()}, verified")


@command("restart", click.argument("unit", default=""), REASON, QUIET)
def restart(context: Context, unit: str, reason: str, quiet: bool) -> None:
    """Restart and verify the live release."""
    from bb_release.actions import recover, run
    from bb_release.actions import switch as action

    with run.changing(context.app(), "restart", reason=reason, quiet=quiet) as under_way:
        recover.recover(under_way)
        target = action.restart(under_way, unit)
        under_way.log.say(f"live: {target.describe()}, verified")


@command("recover", QUIET)
def recover(context: Context, quiet: bool) -> None:
    """Finish or undo what a killed run left."""
    from bb_release.actions import recover as action
    from bb_release.actions import run

    with run.changing(context.app(), "recover", quiet=quiet) as under_way:
        if not action.recover(under_way):
            under_way.log.say("nothing to recover")


@command("status", JSON)
def status(context: Context, as_json: bool) -> None:
    """What is live, and is it well? Exit code 1 when it is not."""
    from bb_release.actions import status as action

    facts = action.status(context.app())
    (console.print_json if as_json else console.print_status)(facts)
    if not facts["well"]:
        raise SystemExit(1)


@command("list", JSON)
def list_releases(context: Context, as_json: bool) -> None:
    """Every release, newest first."""
    from bb_release.actions import status as action

    rows = action.listed(context.app())
    if as_json:
        console.print_json(rows)
    else:
        console.print_releases(rows)


@command("show", click.argument("release", default=""))
def show(context: Context, release: str) -> None:
    """The manifest of a release, the live one by default."""
    from bb_release.actions import status as action

    console.print_json(action.shown(context.app(), release))


@command("log", click.argument("release", default=""), JSON)
def log(context: Context, release: str, as_json: bool) -> None:
    """What a run printed, and what its programs did."""
    from bb_release.actions import status as action

    path = action.log_file(context.app(), release)
    if as_json:
        console.print_line(path.read_text(encoding="utf-8").rstrip())
    else:
        console.print_log(str(path))


@command("history", JSON, click.option("--last", "count", type=click.IntRange(1), default=20))
def history(context: Context, as_json: bool, count: int) -> None:
    """Who did what, and what became of it."""
    from bb_release.actions import status as action

    lines = action.history(context.app(), count)
    if as_json:
        console.print_json(lines)
    else:
        console.print_history(lines)


@command(
    "prune", click.option("--keep", type=click.IntRange(1), help="How many good releases stay."),
    click.option("--dry-run", is_flag=True, help="Only say what would go, and why."), QUIET,
)  # fmt: skip
def prune(context: Context, keep: int | None, dry_run: bool, quiet: bool) -> None:
    """Remove what retention lets go, with the reason for each release."""
    from bb_release.actions import prune as action
    from bb_release.actions import recover, run

    app = context.app()
    if dry_run:
        verdicts = action.verdicts(app, keep)
    else:
        with run.changing(app, "prune", quiet=True) as under_way:
            recover.recover(under_way)
            verdicts = action.prune(under_way, keep)
    if not quiet:
        rows = [[v.name, "keep" if v.keep else "remove", v.reason] for v in verdicts]
        console.print_table(["release", "verdict", "reason"], rows)


def _pin(context: Context, release: str, *, pinned: bool) -> None:
    from bb_release.actions import prune as action
    from bb_release.actions import run

    with run.changing(context.app(), "pin" if pinned else "unpin", quiet=True) as under_way:
        name = action.pin(under_way, release, pinned=pinned)
    console.print_line(f"{name} is {'pinned: prune leaves it alone' if pinned else 'no longer pinned'}")


@command("pin", click.argument("release"))
def pin(context: Context, release: str) -> None:
    """Protect a release from prune."""
    _pin(context, release, pinned=True)


@command("unpin", click.argument("release"))
def unpin(context: Context, release: str) -> None:
    """Let prune judge a release again."""
    _pin(context, release, pinned=False)


@command("hold", REASON)
def hold(context: Context, reason: str) -> None:
    """Stop every deploy until `unhold`."""
    from bb_release.actions import run
    from bb_release.model import hold as model

    with run.changing(context.app(), "hold", reason=reason, quiet=True) as under_way:
        model.place(under_way.app.layout, who=under_way.who, reason=reason or "no reason given", by_hand=True)
    console.print_line("held: no deploy until bb-release unhold")


@command("unhold")
def unhold(context: Context) -> None:
    """Lift a hold."""
    from bb_release.actions import run
    from bb_release.model import hold as model

    with run.changing(context.app(), "unhold", quiet=True) as under_way:
        lifted = model.lift(under_way.app.layout)
    console.print_line("no longer held" if lifted else "was not held")


@command("manage", click.argument("arguments", nargs=-1, type=click.UNPROCESSED))
def manage(context: Context, arguments: tuple[str, ...]) -> None:
    """A Django management command in the live release: bb-release manage -- shell."""
    from bb_release.actions import inside

    inside.replace_by(context.app(), arguments, manage=True)


@command("exec", click.argument("arguments", nargs=-1, type=click.UNPROCESSED))
def execute(context: Context, arguments: tuple[str, ...]) -> None:
    """Any command in the live release, with the site's environment."""
    from bb_release.actions import inside

    inside.replace_by(context.app(), arguments, manage=False)


@command("config", click.option("--schema", is_flag=True, help="A JSON Schema of the file, for editors."))
def show_config(context: Context, schema: bool) -> None:
    """The effective configuration; never a secret's value."""
    from dataclasses import asdict

    from bb_release import config

    console.print_json(config.schema() if schema else asdict(context.app()))


def main() -> None:
    """Run one command and leave with its exit code, also when the terminal is gone."""
    try:
        run_command()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # what is left in the buffer has no reader: it would be exit code 120
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run_command() -> None:
    """Run it; each expected failure becomes its exit code."""
    as_json = "--json" in sys.argv
    try:
        command_line.main(standalone_mode=False)
    except ReleaseError as error:
        if as_json:
            console.print_json(console.error_facts(error))
        console.print_error(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        console.print_error(UsageInvalid(error.format_message(), remedy="bb-release --help lists what there is"))
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - whatever is left is a bug of ours
        traceback.print_exc()
        console.print_line(f"this is a bug in bb-release {__version__}: {type(error).__name__}")
        sys.exit(BUG)
