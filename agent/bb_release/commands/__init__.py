"""What every command shares: -a and --config, the options that several take, and how one is declared."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from bb_release import __version__, console
from bb_release.commands import completion
from bb_release.model import durable
from bb_release.model.app import App


class Context:
    """What the options before and after the command said."""

    def __init__(self) -> None:
        self.app_name: str | None = None
        self.file: Path | None = None

    def name_the_app(self) -> None:
        """Have commands that are shown to a person name the app as this one did: they can be typed as they stand."""
        from bb_release import config

        variable = os.environ.get(config.VARIABLE, "")
        file = self.file or (Path(variable) if variable and self.app_name in (None, Path(variable).stem) else None)
        verbs = set(command_line.commands) - {"init", "completion"}  # which mean no configured app
        if file:
            console.speak(["--config", str(file.absolute())], verbs)
        elif self.app_name:
            console.speak(["-a", self.app_name], verbs)

    def app(self) -> App:
        from bb_release import config

        self.name_the_app()
        return config.load(config.find(self.app_name, self.file))


def keep_app(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        held = context.find_root().ensure_object(Context)
        setattr(held, "app_name" if parameter.name == "app_name" else "file", value)


APP = click.option(
    "-a", "--app", "app_name", metavar="APP", help="Which app, when several are configured.",
    expose_value=False, callback=keep_app, shell_complete=completion.apps,
)  # fmt: skip
CONFIG = click.option(
    "--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="The configuration file.",
    expose_value=False, callback=keep_app,
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
REASON = click.option("-m", "--message", "reason", default="", metavar="REASON", help="Why, for the journal.")
QUIET = click.option("--quiet", is_flag=True, help="Print nothing but errors.")
RELEASE = click.argument("release", shell_complete=completion.releases)
RELEASE_OR_NONE = click.argument("release", default="", shell_complete=completion.releases)
FORCE = click.option(
    "--force",
    is_flag=True,
    help="Also when held or marked bad; deploy: also when it is live already, and with newer packages where the"
    " requirements allow.",
)


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
        @wraps(function)
        def told(*arguments: Any, **named: Any) -> Any:
            with durable.refusals_told():
                return function(*arguments, **named)

        wrapped: Any = click.pass_obj(told)
        for option in (CONFIG, APP, *reversed(options)):
            wrapped = option(wrapped)
        return command_line.command(name)(wrapped)

    return wrap
