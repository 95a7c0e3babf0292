"""Which releases stay, and why. Pure: decides, removes nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bb_release.model.manifest import State
from bb_release.model.release import Release


@dataclass(frozen=True)
class Verdict:
    """Keep or remove, with its reason."""

    name: str
    keep: bool
    reason: str


def judge(
    releases: list[Release],
    *,
    keep: int,
    current: str,
    previous: str,
    pinned: Collection[str] = (),
    in_use: Collection[str] = (),
    unseen: Collection[str] = (),
    unreadable: Collection[str] = (),
) -> list[Verdict]:
    """One verdict for each release, newest first. Only releases that were live and good use up `keep`."""
    good = sorted((r for r in releases if r.is_good), key=lambda r: r.activated_sequence, reverse=True)
    kept_good = {r.name: place for place, r in enumerate(good[:keep], 1)}
    unfinished = [r for r in releases if r.state in (State.BUILDING, State.FAILED, State.READY)]
    newest_unfinished = unfinished[-1].name if unfinished else ""
    verdicts = []
    for release in reversed(releases):
        name, keeps, reason = release.name, True, ""
        if name == current:
            reason = "it is live"
        elif name == previous:
            reason = "it was live before the current one"
        elif name in pinned:
            reason = "it is pinned"
        elif name in in_use:
            reason = "a process still uses it"
        elif name in unseen:
            reason = "it was live within the last day, and processes of other users cannot be read"
        elif release.state in (State.ACTIVATING, State.RETURNING):
            reason = "a switch of it is not finished: bb-release recover"
        elif name in kept_good:
            reason = f"good release {kept_good[name]} of the {keep} that are kept"
        elif name == newest_unfinished:
            reason = f"the newest that never went live ({release.state}), kept to be looked at"
        else:
            keeps = False
            reason = f"older than the {keep} good ones" if release.is_good else f"{release.state}, never a target"
        verdicts.append(Verdict(name, keeps, reason))
    verdicts += [Verdict(name, True, "its manifest cannot be read") for name in sorted(unreadable)]
    return verdicts
