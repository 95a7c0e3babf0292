"""Every failure that is expected: a stable code, what failed, a remedy, an exit code.

Imports nothing of ours, so that every room may raise them. The README lists each code; a test walks them.
"""

from __future__ import annotations

from typing import ClassVar

CUT = "…"


def shortened(text: str, most: int) -> str:
    """A text's first `most` characters. The sign where it was cut is for people, and for what masks secrets:

    half of one is not recognised by its value.
    """
    return text if len(text) <= most else text[:most] + CUT


class Explained(Exception):
    """What ends a command. Says what happened and what to do about it.

    The action that was running adds `site` (in what state the site is now), `log` (where to read more)
    and, where the failed step could have changed more than a release, another `exit_code`.
    """

    code: ClassVar[str] = ""
    exit_code: int = 1

    def __init__(self, message: str, *, remedy: str, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details
        self.site = ""
        self.log = ""
        self.told_before = False  # a timer's next try of what failed in the same way: no news

    def tell_also(self, second: Explained) -> None:
        """A failure that came on top of this one, among its details."""
        self.details = "\n".join(text for text in (self.details, second.message, second.details) if text)


class ReleaseError(Explained):
    """An expected failure."""


class UsageInvalid(ReleaseError):
    code = "usage-invalid"
    exit_code = 2


class ConfigurationInvalid(ReleaseError):
    code = "configuration-invalid"
    exit_code = 2


class NotTheOwner(ReleaseError):
    code = "not-the-owner"
    exit_code = 2


class RefInvalid(ReleaseError):
    code = "ref-invalid"
    exit_code = 2


class AlreadyThere(ReleaseError):
    """A file that would be written is there, and is never overwritten."""

    code = "already-there"


class NoDjangoProject(ReleaseError):
    code = "no-django-project"


class PreflightFailed(ReleaseError):
    code = "preflight-failed"


class MirrorNotUpdated(ReleaseError):
    code = "mirror-not-updated"


class HostKeyUnknown(ReleaseError):
    code = "host-key-unknown"


class HostKeyChanged(ReleaseError):
    code = "host-key-changed"


class RefNotFound(ReleaseError):
    code = "ref-not-found"


class SignatureInvalid(ReleaseError):
    """The revision has no signature that counts. Nothing is built from it."""

    code = "signature-invalid"


class TreeNotExported(ReleaseError):
    code = "tree-not-exported"


class ArchiveRefused(ReleaseError):
    code = "archive-refused"


class EnvironmentNotCreated(ReleaseError):
    code = "environment-not-created"


class RequirementsInvalid(ReleaseError):
    """What the tree says of its requirements cannot be used, before anything is installed."""

    code = "requirements-invalid"


class RequirementsNotInstalled(ReleaseError):
    code = "requirements-not-installed"


class SharedMissing(ReleaseError):
    code = "shared-missing"


class CommandFailed(ReleaseError):
    code = "command-failed"


class DjangoCheckFailed(ReleaseError):
    code = "django-check-failed"


class ApplicationNotImportable(ReleaseError):
    code = "application-not-importable"


class StaticNotCollected(ReleaseError):
    code = "static-not-collected"


class MigrationsNotPlanned(ReleaseError):
    code = "migrations-not-planned"


class MigrateFailed(ReleaseError):
    code = "migrate-failed"


class RehearsalFailed(ReleaseError):
    code = "rehearsal-failed"


class UnitsNotRestarted(ReleaseError):
    code = "units-not-restarted"


class NotHealthy(ReleaseError):
    code = "not-healthy"


class LockHeld(ReleaseError):
    code = "another-run-holds-the-lock"
    exit_code = 10


class NoSuchRelease(ReleaseError):
    code = "no-such-release"
    exit_code = 11


class ReleaseNotUsable(ReleaseError):
    code = "release-not-usable"
    exit_code = 11


class Held(ReleaseError):
    code = "held"
    exit_code = 12


class NotNow(ReleaseError):
    code = "not-now"
    exit_code = 12


class StateUnreadable(ReleaseError):
    code = "state-unreadable"
    exit_code = 21


class StorageFailed(ReleaseError):
    """The operating system refused: disk or inodes full, read-only, an input or output error, or closed to us."""

    code = "storage-failed"


class BugFound(ReleaseError):
    """What is no expected failure."""

    code = "bug"
    exit_code = 3


class Interrupted(Explained):
    """A signal. No failure of what it hits: whoever gets along without an answer must not swallow it as one."""

    code = "interrupted"
    exit_code = 130
