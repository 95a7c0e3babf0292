"""`manage` and `exec`: any command in the live release, with the site's environment, from the real path."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bb_release.actions.owner import require_owner
from bb_release.actions.run import environments, not_live
from bb_release.errors import CommandFailed, UsageInvalid
from bb_release.model import activation
from bb_release.model.app import App
from bb_release.model.release import Release
from bb_release.tools import process


def replace_by(app: App, arguments: Sequence[str], *, manage: bool) -> None:
    """Become a command in the live release (exec). `current` is resolved once: a process started through the
    link could import from the next release after a switch. Raises ReleaseError; does not return otherwise.
    """
    require_owner(app)
    live = live_release(app)
    if not arguments:
        raise UsageInvalid("no command was given", remedy="bb-release manage -- migrate --plan, for example")
    site, _, _ = environments(app, live)
    site |= {name: os.environ[name] for name in ("TERM", "COLUMNS", "LINES") if name in os.environ}  # a person's own
    first = [str(live.python), app.manage] if manage else []
    try:
        process.replace_self([*first, *arguments], cwd=live.tree / app.subfolder, env=site)
    except process.ProcessFailed as error:
        raise CommandFailed(str(error), remedy="see that the command exists") from error


def live_release(app: App) -> Release:
    live = activation.current(app.layout)
    if live is None:
        raise not_live(app)
    return live
