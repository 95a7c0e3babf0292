"""Migrations: which are pending, running them, and what of them a switch has to ask the database."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from bb_release.actions import answers, build, interruption
from bb_release.actions.run import site_state
from bb_release.actions.site_commands import last_lines, run_commands
from bb_release.errors import Explained, Interrupted, MigrateFailed, MigrationsNotPlanned, ReleaseNotUsable
from bb_release.model import durable
from bb_release.model.app import App
from bb_release.model.manifest import State
from bb_release.model.step import Deployment
from bb_release.tools import django, stage
from bb_release.tools.process import ProcessFailed


def ask_migrations(deployment: Deployment) -> dict[str, Any]:
    """What of this release's migrations is applied and what is pending. Raises MigrationsNotPlanned."""
    try:
        return django.ask(
            build.project_of(deployment), "migrations", django.answer_in_memory(),
            is_answer=answers.KINDS["migrations"], timeout_seconds=deployment.app.timeouts.plan_migrations,
        )  # fmt: skip
    except ProcessFailed as error:
        raise MigrationsNotPlanned(
            f"Django could not be asked which migrations are applied: the question {error.reason}",
            details=last_lines(error.output),
            remedy="see that the database is up and the site's environment names it, and that the release's Python"
            " starts; then run the command again",
        ) from error


def note_applied(deployment: Deployment, names: list[str]) -> None:
    """The manifest says what this deploy did to the database, on a full disk too. Raises StorageFailed."""

    def note() -> None:
        deployment.release = deployment.release.mark(migrations=names)

    durable.with_reserve(deployment.layout.reserve, note)


def plan_migrations(deployment: Deployment) -> None:
    answer = ask_migrations(deployment)
    pending, live = answer["pending"], deployment.previous
    if live and pending and not answer["applied"]:
        raise MigrationsNotPlanned(
            f"the database is empty, though {live.describe()} is live and had its migrations applied",
            remedy="see which database the site's environment names (a lost SQLite file?); where an empty one is meant:"
            " bb-release manage -- migrate, then bb-release deploy",
        )
    if answer["unknown"]:
        deployment.reporter.warn(f"the database is ahead of this release by {', '.join(answer['unknown'])}")
    listed = hashlib.sha256(json.dumps(answer["listed"]).encode()).hexdigest()
    facts = {**deployment.release.manifest.facts, "pending": pending, "database": _database(deployment.app, listed)}
    deployment.release = deployment.release.mark(facts=facts)
    if pending:
        deployment.reporter.line(f"pending: {', '.join(pending)}")


def migrate(deployment: Deployment) -> None:
    """Skipped when nothing is pending. The first signal is told what is waited for, the second interrupts."""
    pending = deployment.release.manifest.facts["pending"]
    if not pending:
        return
    run_commands(deployment, "before-migrate")
    try:
        with interruption.policy("migrate"):
            django.manage(
                build.project_of(deployment), *django.MIGRATE,
                timeout_seconds=deployment.app.timeouts.migrate, low_priority=False,
            )  # fmt: skip
    except (ProcessFailed, Interrupted) as error:
        failed = MigrateFailed(
            f"manage.py migrate {error.reason if isinstance(error, ProcessFailed) else 'was interrupted'}",
            details=last_lines(error.output) if isinstance(error, ProcessFailed) else "",
            remedy="correct the migration and push, then run: bb-release deploy (what is applied is not run again;"
            " a migration with atomic = False may have left a part of its work)",
        )
        try:
            left = set(ask_migrations(deployment)["pending"])
        except Explained as second:
            failed.exit_code = 4
            failed.site = (
                f"{site_state(deployment.app)}; the database does not tell what is applied, any of these may be:"
                f" {', '.join(pending)} ({second.message})"
            )
            raise failed from error
        note_applied(deployment, [name for name in pending if name not in left])
        raise failed from error
    stage.end()  # what is loaded may have looked at the database as it was
    of_default = [name for name in pending if ":" not in name]
    note_applied(deployment, of_default)
    run_commands(deployment, "after-migrate")
    if (
        of_default != pending
    ):  # manage.py migrate does the default database: others are what the site's commands made them
        left = ask_migrations(deployment)["pending"]
        note_applied(deployment, [name for name in pending if name not in left])
        deployment.release = deployment.release.mark(facts={**deployment.release.manifest.facts, "unapplied": left})


def require_migrated(deployment: Deployment) -> None:
    """A release whose migrations are not applied is refused; what the database has beyond it is said."""
    if _is_like_live(deployment):
        deployment.reporter.line("the same migrations as the live release: the database is not asked")
        return
    answer, facts = ask_migrations(deployment), deployment.release.manifest.facts
    pending = [
        name for name in answer["pending"] if name not in facts.get("unapplied", ())
    ]  # it was live without those
    if pending:
        raise ReleaseNotUsable(
            f"release {deployment.release.describe()} has migrations that are not applied",
            details="\n".join(pending),
            remedy="deploy its revision instead: bb-release deploy <revision>",
        )
    if answer["unknown"]:
        deployment.reporter.warn(f"the database is ahead of this release by {', '.join(answer['unknown'])}")


def _database(app: App, listed: str) -> str:
    """What says which migrations a release has for which databases; "" where that is not known.

    A file with the site's environment may name other databases once it is written to.
    """
    if app.environment_unit or not listed:
        return ""
    look = app.env_file.stat() if app.env_file else None
    return f"{listed} {look.st_ino} {look.st_mtime_ns}" if look else listed


def _is_like_live(deployment: Deployment) -> bool:
    """Has the live release, which is well, the same migrations of the same databases? So has the database, then."""
    live, target, app = deployment.previous, deployment.release, deployment.app
    if live is None or live.state is not State.VERIFIED:
        return False
    known = str(live.manifest.facts.get("database") or "")
    still = known and known == _database(app, known.partition(" ")[0])
    same_shape = live.manifest.shape == target.manifest.shape == app.shape
    return bool(still and same_shape and known == target.manifest.facts.get("database"))
