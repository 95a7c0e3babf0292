"""Every path of an app, from its root. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The folders and files of one app. The only place that knows their names."""

    root: Path

    @property
    def current(self) -> Path:
        return self.root / "current"

    @property
    def staged_current(self) -> Path:
        """Where the next `current` is prepared before it is renamed into place."""
        return self.root / ".current.new"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def slots(self) -> Path:
        """Two links to releases, from which the instances of a blue-green handover are started."""
        return self.root / "slots"

    @property
    def mirror(self) -> Path:
        return self.root / "mirror.git"

    @property
    def submodules(self) -> Path:
        """The mirrors of submodules, each named by a hash of its url."""
        return self.root / "submodules"

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    @property
    def static_pool(self) -> Path:
        """Links to hashed static files of recent releases, for pages that older releases have rendered."""
        return self.root / "static-pool"

    @property
    def sets(self) -> Path:
        """Installed packages, each choice of them once; releases have links to them."""
        return self.root / "sets"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def journal(self) -> Path:
        return self.state / "journal.jsonl"

    @property
    def hold(self) -> Path:
        return self.state / "hold.json"

    @property
    def pins(self) -> Path:
        return self.state / "pins.json"

    @property
    def unreachable(self) -> Path:
        """What a timer's look last failed with (at the repository, as a rule), so that it is told once."""
        return self.state / "unreachable.json"

    @property
    def configuration(self) -> Path:
        """What the configuration file was found to say."""
        return self.state / "configuration.json"

    @property
    def tries(self) -> Path:
        """What timers tried and failed, so that they try again with growing pauses."""
        return self.state / "tries.json"

    @property
    def reserve(self) -> Path:
        return self.root / "reserve"
