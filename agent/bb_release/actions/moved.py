"""A person has moved `current`, and what served before still does: what is told of it, and what leads on or back."""

from __future__ import annotations

from bb_release.actions import instances
from bb_release.actions.run import command_to
from bb_release.errors import NotHealthy
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
    on = lead_on(live) if live else ""
    found = [(command_to(left), "leads back")] if left else []
    if on:
        way = on, "starts what current leads to beside it, and leads to that when it is proven"
        found.insert(1 if live and live.state is State.BAD else 0, way)
    return found or [("bb-release list", "shows what there is to switch to")]


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


def require_not(app: App) -> None:
    """Raises NotHealthy where `current` leads to one release and another one serves; else as `instances.active`."""
    wrong = found(app)
    if wrong:
        text, out = wrong
        error = NotHealthy(text, remedy="; ".join(f"{do} {what}" for do, what in out))
        error.exit_code = 21
        raise error
