"""The commands that only read, and the two that become a program of the site."""

from __future__ import annotations

import click

from bb_release import console
from bb_release.commands import JSON, RELEASE_OR_NONE, Context, command, command_line, completion


@command("status", JSON)
def status(context: Context, as_json: bool) -> None:
    """What is live, and is it well? Exit code 1 when it is not."""
    from bb_release.actions import status as action

    facts = action.status(context.app())
    facts["to_do"] = [{**each, "do": console.spoken(each["do"])} for each in facts["to_do"]]
    (console.print_json if as_json else console.print_status)(facts)
    if not facts["well"]:
        raise SystemExit(1)


@command("list", JSON)
def list_releases(context: Context, as_json: bool) -> None:
    """Every release, newest first."""
    from bb_release.actions import status as action

    rows, unknown = action.listed(context.app())
    if as_json:
        console.print_json(rows)
    else:
        console.print_releases(rows)
    if unknown:
        console.print_error(unknown)
        raise SystemExit(unknown.exit_code)


@command("show", RELEASE_OR_NONE)
def show(context: Context, release: str) -> None:
    """The manifest of a release, the live one by default."""
    from bb_release.actions import status as action

    console.print_json(action.shown(context.app(), release))


@command(
    "log", RELEASE_OR_NONE, JSON,
    click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until the run has ended."),
)  # fmt: skip
def log(context: Context, release: str, as_json: bool, follow: bool) -> None:
    """What a run printed, and what its programs did."""
    from bb_release.actions import status as action

    for line in action.log_lines(context.app(), release, follow=follow):
        if as_json:
            console.print_line(line)
        else:
            console.print_log_line(line)


@command(
    "history", JSON,
    click.option("--last", "count", type=click.IntRange(1), default=20, show_default=True, metavar="N",
                 help="How many lines, counted from the newest."),
)  # fmt: skip
def history(context: Context, as_json: bool, count: int) -> None:
    """Who did what, and what became of it."""
    from bb_release.actions import status as action

    lines, there = action.history(context.app(), count)
    if as_json:
        console.print_json(lines)
    else:
        console.print_history(lines, there)


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
    from bb_release import config
    from bb_release.actions import status as action

    console.print_json(config.schema() if schema else action.effective(context.app()))


@command_line.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def show_completion(shell: str) -> None:
    """The lines that make a shell complete commands, apps, releases and units."""
    console.print_line(completion.script(command_line, shell))
