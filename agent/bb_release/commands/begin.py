"""The commands for somebody who begins: a configuration, the units, and whether this host can deploy."""

from __future__ import annotations

from pathlib import Path

import click

from bb_release import console
from bb_release.commands import JSON, Context, command
from bb_release.errors import UsageInvalid


@command(
    "units",
    click.option("--systemd", is_flag=True, help="Only the systemd units."),
    click.option("--nginx", is_flag=True, help="Only the nginx site."),
    click.option("--user", "site_user", default="", metavar="USER", help="Who runs the site; else as the web server."),
    click.option("--install", is_flag=True,
                 help="As root, for a user's own units as that user: write those that are not there."),
)  # fmt: skip
def units(context: Context, systemd: bool, nginx: bool, site_user: str, install: bool) -> None:
    """The systemd units and the nginx site of this app, printed or installed."""
    from bb_release.actions import unit_files
    from bb_release.actions import units as action

    app = context.app()
    both = systemd == nginx
    files = action.render(app, action.people(app, site_user), systemd=systemd or both, nginx=nginx or both)
    if not install:
        for file in files:
            console.print_line(f"# ---- {file.path}\n\n{file.content}")
        return
    written = unit_files.install(files)
    for file in files:
        state = "as it was" if file.path.exists() else "no such folder"
        if not file.path.exists() and not unit_files.is_mine(file):
            state = f"left to {file.owner}, who runs bb-release units --install{' --nginx' * (file.owner == 'root')}"
        console.print_line(f"{'wrote' if file.path in written else state}: {file.path}")
    console.print_line("now:")
    for line in unit_files.enable_commands(app, [file for file in files if file.path.exists()]):
        console.print_line(f"  {line}")


@command(
    "init",
    click.argument("repository", default=""),
    click.option("--root", default="", metavar="DIR", help="The app root; else /srv/NAME."),
    click.option("--branch", default="", metavar="BRANCH", help="What is deployed; else the remote's HEAD."),
    click.option("--output", type=click.Path(path_type=Path), metavar="FILE",
                 help="Else /etc/bb-release/NAME.toml where writable, or ./NAME.toml."),
)  # fmt: skip
def init(context: Context, repository: str, root: str, branch: str, output: Path | None) -> None:
    """Look at a repository and write a configuration for it; without one, at the working folder's origin."""
    from bb_release.actions import init as action

    if context.file is not None:
        raise UsageInvalid("init reads no configuration", remedy="say --output FILE to choose where it is written")
    begun = action.init(repository, name=context.app_name or "", root=root, branch=branch, output=output)
    console.print_begun(str(begun.file), begun.found, begun.missing, begun.commands)


@command("check", JSON)
def check(context: Context, as_json: bool) -> None:
    """Can this host deploy this app? Exit code 1 when something stops a deploy. Changes nothing."""
    from bb_release.actions import check as action
    from bb_release.model.fact import Level

    context.name_the_app()
    facts = action.check(context.app_name, context.file)
    todo = [console.spoken(line) for line in action.to_do(facts)]
    stopped = any(fact.level is Level.PROBLEM for group in facts.values() for fact in group)
    rows = {
        group: [(str(fact.level), fact.text, console.spoken(fact.do)) for fact in found]
        for group, found in facts.items()
    }
    if as_json:
        named = [
            {"group": group, "level": level, "text": text, "do": do}
            for group, found in rows.items()
            for level, text, do in found
        ]
        console.print_json({"can_deploy": not stopped, "facts": named, "to_do": todo})
    else:
        console.print_check(rows, todo, stopped=stopped)
    if stopped:
        raise SystemExit(1)
