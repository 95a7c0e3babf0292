"""Tells the webhook of the configuration how a run ended. Whatever goes wrong here is a warning."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from bb_release.envfile import read as read_envfile
from bb_release.errors import Explained, ReleaseError
from bb_release.tools import webhook

if TYPE_CHECKING:
    from bb_release.actions.run import Run

VARIABLE = "WEBHOOK_URL"
WAIT_SECONDS = 10.0


def notify(run: Run, error: Explained | None) -> None:
    """One message for each run that was to change what is live; none for a failure that was told before."""
    app = run.app
    if app.webhook_file is None or "to" not in run.facts or (error is not None and error.told_before):
        return
    facts: dict[str, object] = {
        "text": sentence(run, error),  # what Slack, Mattermost and others show
        "app": app.name,
        "host": socket.gethostname(),
        "action": run.action,
        "result": error.code if error else "verified",
        "exit_code": error.exit_code if error else 0,
        "who": run.who,
        "reason": run.reason,
        **run.facts,
    }
    if error:
        facts.update(message=error.message, site=error.site, remedy=error.remedy)
    try:
        url = read_envfile(app.webhook_file).get(VARIABLE, "")
        if not url:
            raise webhook.NotTold(f"{app.webhook_file} has no line {VARIABLE}=https://…")
        webhook.post(url, facts, timeout_seconds=WAIT_SECONDS)
    except (webhook.NotTold, ReleaseError) as problem:
        run.log.warn(f"nobody was told: {problem}")


def sentence(run: Run, error: Explained | None) -> str:
    """What happened, for people in a chat room."""
    host = socket.gethostname()
    if error is None:
        return f"{run.app.name} on {host}: {run.action} by {run.who}: {run.facts['to']} is live and verified"
    return f"{run.app.name} on {host}: {run.action} by {run.who} failed: {error.message}. Site: {error.site}"
