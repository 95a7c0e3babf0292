"""What a shell offers after TAB: apps, releases, units; and the script that makes it ask."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import click

from bb_release.errors import ReleaseError
from bb_release.model.app import App

VARIABLE = "_BB_RELEASE_COMPLETE"  # click's name for it


def script(group: click.Group, shell: str) -> str:
    """The lines that a shell sources to complete the words of `bb-release`."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None, shell  # click.Choice lets only its own shells through
    return made(group, {}, "bb-release", VARIABLE).source()


def _said(*options: str) -> str | None:
    """The value that one of these options has on the line that is being completed."""
    from click.shell_completion import split_arg_string

    words = split_arg_string(os.environ.get("COMP_WORDS", ""))
    return next((after for word, after in itertools.pairwise(words) if word in options), None)


def _app() -> App | None:
    """The app that the line means, None when that cannot be said: TAB is no place for errors."""
    from bb_release import config

    file = _said("--config")
    try:
        return config.load(config.find(_said("-a", "--app"), Path(file) if file else None))
    except ReleaseError:
        return None


def apps(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    from bb_release import config

    try:
        return [name for name in config.names() if name.startswith(begun)]
    except ReleaseError:
        return []


def releases(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    from bb_release.model import release

    app = _app()
    try:
        names = sorted(release.names(app.layout), reverse=True) if app else []
    except OSError:  # closed to who asks
        names = []
    return [name for name in [*names, "previous"] if name.startswith(begun)]


def units(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    app = _app()
    return [unit.name for unit in app.units if unit.name.startswith(begun)] if app else []
