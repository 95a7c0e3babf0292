"""What `release.json` says of one release: its facts and its state."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bb_release.errors import StateUnreadable
from bb_release.model import durable
from bb_release.model.shape import MANIFEST as KINDS
from bb_release.model.shape import misfits

FORMAT = 1
MANIFEST = "release.json"


class State(enum.StrEnum):
    """Where a release is in its life. None of them says "live": only the link does."""

    BUILDING = "building"
    READY = "ready"
    ACTIVATING = "activating"
    VERIFIED = "verified"
    RETURNING = "returning"
    FAILED = "failed"
    BAD = "bad"
    ADOPTED = "adopted"


GOOD = (State.VERIFIED, State.ADOPTED)


@dataclass(frozen=True)
class Manifest:
    """The facts and the state of one release, as `release.json` has them."""

    name: str
    state: State
    ref: str = ""
    revision: str = ""
    shape: str = ""
    sequence: int = 0
    activations: tuple[dict[str, Any], ...] = ()
    before: str = ""  # while activating: the state to return to if the link has not moved
    previous: str = ""  # while activating: what a failed switch goes back to
    makes_bad: str = ""  # a rollback: the release that becomes bad when this one is verified
    switch_back: bool = True  # while activating: may it be switched back when it is not well?
    began_at: str = ""
    agent: str = ""
    boot: str = ""  # of the host, when the building began: a later one may have lost what was not flushed
    python: str = ""
    reason: str = ""
    steps: dict[str, float] = field(default_factory=dict)  # finished steps and their seconds
    facts: dict[str, Any] = field(default_factory=dict)  # what Django said of itself
    migrations: tuple[str, ...] = ()  # applied by this release's deploy
    packages: dict[str, str] = field(default_factory=dict)
    package_set: str = ""  # the set that they are links to
    units: tuple[dict[str, Any], ...] = ()  # what ran it when it was last live, as far as it is needed to ask for it
    proof: dict[str, str] = field(default_factory=dict)  # by unit: what proved that it runs from this release
    proven: dict[str, str] = field(default_factory=dict)  # by unit: which run of it that was, as UnitState.run names it
    failure: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)  # bytes and files
    format: int = FORMAT


# What was read, and of which version of the file: a run looks at all releases several times, and there may be many.
_read: dict[Path, tuple[tuple[int, ...], Manifest]] = {}
_last: dict[str, Any] = {}  # what the one read last said: most say the same of packages, units and Django


def read(folder: Path) -> Manifest:
    """Read the manifest of one release. Raises StateUnreadable when it is missing, broken or of a newer agent."""
    path = folder / MANIFEST
    try:
        seen = path.stat()
        version = (seen.st_ino, seen.st_ctime_ns, seen.st_size)
        known_as, manifest = _read.get(folder, ((), None))
        if manifest and known_as == version:  # a change is always another file, put in its place
            return manifest
        facts = json.loads(durable.read_plain(path))
        if not isinstance(facts, dict):
            raise TypeError("not an object")
        if facts.get("format") != FORMAT:
            raise ValueError(f"format {facts.get('format')!r}, this bb-release reads {FORMAT}")
        wrong = misfits(facts, KINDS)
        if wrong:
            raise ValueError(f"{', '.join(wrong)} cannot be what it says")
        known = {f.name for f in fields(Manifest)}
        manifest = Manifest(**{key: _shared(key, _thawed(value)) for key, value in facts.items() if key in known})
        manifest = replace(manifest, state=State(manifest.state))
        if manifest.name != folder.name:
            raise ValueError(f"it is the manifest of {manifest.name}")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        remedy = f"look at {path}; nothing was touched. A release that is not live may be removed by hand"
        raise StateUnreadable(
            f"the manifest of release {folder.name} cannot be read: {error}",
            remedy=durable.let_in(path) if isinstance(error, PermissionError) else remedy,
        ) from error
    _read[folder] = version, manifest
    return manifest


def _thawed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _shared(key: str, value: Any) -> Any:
    """Equal values are one object: a thousand releases are read in 4 MB, and not in 33. Nobody changes one in place."""
    if _last.get(key) != value:
        _last[key] = value
    return _last[key]
