"""One release: its name, its state, its manifest on disk."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from bb_release.errors import NoSuchRelease, ReleaseNotUsable, StateUnreadable
from bb_release.model import durable, manifest
from bb_release.model.layout import Layout
from bb_release.model.manifest import GOOD, MANIFEST, Manifest, State

NAME = re.compile(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}\Z")
TIME = "%Y-%m-%d-%H-%M-%S"


@dataclass(frozen=True)
class Release:
    """A folder below `releases/`, and what its manifest said when it was read."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def state(self) -> State:
        return self.manifest.state

    @property
    def short(self) -> str:
        """The revision as people write it."""
        return self.manifest.revision[:7]

    @property
    def tree(self) -> Path:
        return self.folder / "app"

    @property
    def venv(self) -> Path:
        return self.folder / "venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def static(self) -> Path:
        return self.folder / "static"

    @property
    def is_good(self) -> bool:
        """Was it live and found well? Only such releases count for retention and as targets of a rollback."""
        return self.state in GOOD

    @property
    def activated_sequence(self) -> int:
        """When it last went live, as a number that rises with each activation; 0 for never."""
        return max((int(a["sequence"]) for a in self.manifest.activations), default=0)

    def is_verified_for(self, revision: str, shape: str) -> bool:
        """Is there nothing left to do for this revision with this configuration?"""
        return (self.manifest.revision, self.manifest.shape, self.state) == (revision, shape, State.VERIFIED)

    def describe(self) -> str:
        return f"{self.name} ({self.short})"

    def noted(self, **changes: Any) -> Release:
        """The release with a changed manifest in memory; the next `mark` writes it."""
        return Release(self.folder, replace(self.manifest, **changes))

    def mark(self, state: State | None = None, **changes: Any) -> Release:
        """Write a changed manifest and return the release as it is now. Raises OSError."""
        release = self.noted(**changes, state=state or self.state)
        if state or self.state is not State.BUILDING:  # a build that was killed, or lost its power, begins anew
            durable.put_json(self.folder / MANIFEST, asdict(release.manifest), mode=0o644)
        return release


def read(folder: Path) -> Release:
    """Read one release. Raises StateUnreadable when its manifest is missing, broken or of a newer agent."""
    return Release(folder, manifest.read(folder))


def names(layout: Layout) -> list[str]:
    """Every folder that bears a release's name, oldest first. Strangers are neither counted nor touched."""
    if not durable.is_folder(layout.releases):
        return []
    return sorted(p.name for p in layout.releases.iterdir() if _moment(p.name) and not p.is_symlink())


@cache  # all are listed several times
def _moment(name: str) -> datetime | None:
    """The moment that a release's name tells; None for what is no such name (2026-13-01-…, or a stranger)."""
    try:
        return datetime.strptime(name, TIME).replace(tzinfo=UTC) if NAME.match(name) else None
    except ValueError:
        return None


def readable(layout: Layout) -> tuple[list[Release], dict[str, StateUnreadable]]:
    """All releases oldest first, and those whose manifest cannot be read with the reason."""
    good: list[Release] = []
    broken: dict[str, StateUnreadable] = {}
    for name in names(layout):
        try:
            good.append(read(layout.releases / name))
        except StateUnreadable as error:
            if (layout.releases / name).exists():  # else a prune has just taken it
                broken[name] = error
    return good, broken


def next_name(layout: Layout, now: datetime) -> str:
    """The name for a release begun now: always unique and rising, whatever the clock did."""
    moment = now.astimezone(UTC).replace(microsecond=0)
    existing = names(layout)
    if existing:
        latest = _moment(existing[-1]) or moment
        try:
            moment = max(moment, latest + timedelta(seconds=1))
        except OverflowError:
            raise StateUnreadable(
                f"no release can be named after {existing[-1]}",
                remedy=f"that folder's name is not ours: move it out of {layout.releases}",
            ) from None
    return moment.strftime(TIME)


def next_sequence(releases: list[Release]) -> int:
    """Greatest number given so far, plus one. Clocks decide nothing."""
    return 1 + max((max(r.manifest.sequence, r.activated_sequence) for r in releases), default=0)


def begin(layout: Layout, **facts: Any) -> Release:
    """Make the folder of a new release, with a manifest that says `building`."""
    now = datetime.now(UTC)
    releases, _ = readable(layout)
    folder = layout.releases / next_name(layout, now)
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    durable.sync_folder(layout.releases)
    begun = Manifest(
        folder.name, State.BUILDING, sequence=next_sequence(releases),
        began_at=now.isoformat(timespec="seconds"), **facts,
    )  # fmt: skip
    return Release(folder, begun).mark(State.BUILDING)


def find(layout: Layout, word: str, current: Release | None) -> Release:
    """The release an operator means: a name, a unique prefix of one, a revision or a prefix of it, `previous`.

    A word of digits and dashes is always a name. Raises NoSuchRelease, listing candidates when ambiguous,
    and ReleaseNotUsable where its manifest cannot be read.
    """
    releases, broken = readable(layout)
    if word == "previous":
        target = before_current(releases, current)
        if target is None:
            raise NoSuchRelease("there is no earlier release", remedy="bb-release list shows what there is")
        return target
    if re.fullmatch(r"[0-9-]+", word):
        found = [r for r in releases if r.name.startswith(word)]
        for name, reason in broken.items():
            if name == word:
                raise ReleaseNotUsable(
                    f"release {name} cannot be used: {reason.message}", remedy=reason.remedy
                ) from reason
    elif re.fullmatch(r"[0-9a-f]{4,64}", word):
        found = [r for r in releases if r.manifest.revision.startswith(word)]
        good = [r for r in found if r.is_good]
        found = good[-1:] if good and len({r.manifest.revision for r in found}) == 1 else found
    else:
        found = []
    found = [r for r in found if r.name == word] or found
    if not found:
        raise NoSuchRelease(f"there is no release {word!r}", remedy="bb-release list shows what there is")
    if len(found) > 1:
        raise NoSuchRelease(
            f"{word!r} could be any of {len(found)} releases",
            details="\n".join(r.describe() for r in found),
            remedy="give more of the name",
        )
    return found[0]


def before_current(releases: list[Release], current: Release | None) -> Release | None:
    """What was live before the current release's last activation; for a current one never activated: none."""
    if current is None or not current.manifest.activations:
        return None
    last = max(current.manifest.activations, key=lambda a: int(a["sequence"]))
    return next((r for r in releases if r.name == last.get("previous")), None)


def last_good(releases: list[Release]) -> Release | None:
    """The good release that was live most recently."""
    good = [r for r in releases if r.is_good and r.activated_sequence]
    return max(good, key=lambda r: r.activated_sequence, default=None)


def last_good_before(releases: list[Release], current: Release) -> Release | None:
    """Where a rollback goes: of the good releases that are older than the current one, the one live most recently.

    Older by when it was built: after a switch back to an old release, a rollback never goes to what was left by it.
    """
    return last_good([r for r in releases if r.manifest.sequence < current.manifest.sequence])
