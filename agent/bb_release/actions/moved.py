"""A person has moved `current`, and what served before still does: what is told of it, and what leads on or back."""

from __future__ import annotations

from contextlib import suppress

from bb_release.actions import instances
from bb_release.actions.run import command_to
from bb_release.errors import NotHealthy, ReleaseError
from bb_release.model import activation
from bb_release.model.app import App
from bb_release.model.manifest import State
from bb_release.model.release import Release


def lead_on(live: Release) -> str:
    """What a person types to have a release proven and led to where `current` leads already; "" for one of no use."""
    if live.is_good:
        return "bb-release restart"
    return command_to(live) if live.state in (State.READY, State.BAD) else ""


def ways(live: Release | None, left: Release | None) -> list[tuple[str, str]]:
    """What a person may type, the better one first, each with what it does."""
    on, back = [], []
    if live and lead_on(live):
        on = [(lead_on(live), "starts what current leads to beside it, and leads to that when it is proven")]
    if left:
        back = [(command_to(left), "leads back")]
    is_bad = live is not None and live.state is State.BAD
    return (back + on if is_bad else on + back) or [("bb-release list", "shows what there is to switch to")]


def found(app: App) -> tuple[str, list[tuple[str, str]]] | None:
    """What is wrong where `current` leads to one release and another one serves, and the ways out; else None.

    Raises as `instances.active`.
    """
    if not instances.elsewhere(app):
        return None
    live, left = activation.current(app.layout), instances.left_running(app)
    does = "serves" if instances.has_socket(app) else "takes tasks"
    text = f"current leads to {live.name if live else 'nothing'}, and {left.name if left else 'another release'} {does}"
    return text, ways(live, left)


def seen(app: App) -> tuple[str, str] | None:
    """What is wrong, as `found`, and what to type first; None also where systemd does not say."""
    with suppress(ReleaseError):
        wrong = found(app)
        if wrong:
            return wrong[0], wrong[1][0][0]
    return None


def require_not(app: App) -> None:
    """Raises NotHealthy where `current` leads to one release and another one serves; else as `instances.active`."""
    wrong = found(app)
    if wrong:
        text, out = wrong
        error = NotHealthy(text, remedy="; ".join(f"{do} {what}" for do, what in out))
        error.exit_code = 21
        raise error
