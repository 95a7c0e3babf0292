"""Tells the webhook of the configuration how a run ended. Whatever goes wrong here is a warning."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bb_release.envfile import read as read_envfile
from bb_release.errors import (
    Explained,
    Held,
    Interrupted,
    NoSuchRelease,
    NotNow,
    RefInvalid,
    RefNotFound,
    ReleaseError,
    ReleaseNotUsable,
    UsageInvalid,
)
from bb_release.model.app import App
from bb_release.tools import webhook

if TYPE_CHECKING:
    from bb_release.actions.run import Run

VARIABLE = "WEBHOOK_URL"
WAIT_SECONDS = 10.0
MISTYPED = (NoSuchRelease, RefInvalid, RefNotFound, ReleaseNotUsable, UsageInvalid)  # of interest to who typed it


def notify(run: Run, error: Explained | None) -> None:
    """One message for each run that was to change what is live."""
    if is_news(run, error):
        facts = run.log.mask.all_of(run.facts)
        problem = tell(run.app, action=run.action, who=run.who, reason=run.reason, facts=facts, error=error)
        if problem:
            run.log.warn(f"nobody was told: {problem}")


def is_news(run: Run, error: Explained | None) -> bool:
    """Not what a timer's try before has told, nor that it is not the time; and what did not begin, only in part."""
    if error is None or "to" in run.facts:
        return "to" in run.facts and not (error and error.told_before) and not isinstance(error, NotNow)
    if error.told_before or isinstance(error, Held | NotNow | Interrupted):
        return False
    return run.by_timer or (run.is_for_live and not isinstance(error, MISTYPED))


def tell(
    app: App, *, action: str, who: str, reason: str, facts: Mapping[str, object], error: Explained | None
) -> str:  # fmt: skip
    """Send one message, where there is an address for it. Returns why it was not taken, "" where it was."""
    if app.webhook_file is None:
        return ""
    host = socket.gethostname()
    message: dict[str, object] = {
        "text": f"{app.name} on {host}: {action} by {who}{sentence(facts, error)}",  # what Slack and others show
        "app": app.name,
        "host": host,
        "action": action,
        "result": error.code if error else "verified",
        "exit_code": error.exit_code if error else 0,
        "who": who,
        "reason": reason,
        **facts,
    }
    if error:
        message.update(message=error.message, site=error.site, remedy=error.remedy)
    try:
        url = read_envfile(app.webhook_file).get(VARIABLE, "")
        if not url:
            return f"{app.webhook_file} has no line {VARIABLE}=https://…"
        webhook.post(url, message, timeout_seconds=WAIT_SECONDS)
    except (webhook.NotTold, ReleaseError) as problem:
        return str(problem)
    return ""


def sentence(facts: Mapping[str, object], error: Explained | None) -> str:
    """What happened, for people in a chat room."""
    return f" failed: {error.message}. Site: {error.site}" if error else f": {facts['to']} is live and verified"
