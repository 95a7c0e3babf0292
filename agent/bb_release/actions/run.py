"""What every changing command has in common: the folders, the lock, the log, the journal, the site line."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bb_release import config
from bb_release.actions import instances, interruption, masking, room, site_environment, timer
from bb_release.actions.notify import notify
from bb_release.actions.owner import require_owner, who_runs
from bb_release.envfile import read as read_envfile
from bb_release.errors import (
    BugFound,
    Explained,
    Held,
    Interrupted,
    NoSuchRelease,
    NotNow,
    PreflightFailed,
    ReleaseError,
    StateUnreadable,
)
from bb_release.log import RunLog, remove_old
from bb_release.model import activation, durable, journal
from bb_release.model import release as releases
from bb_release.model.app import App, Health
from bb_release.model.lock import app_lock
from bb_release.model.manifest import State
from bb_release.model.release import TIME, Release
from bb_release.model.step import bug
from bb_release.terminal import Terminal
from bb_release.tools import filesystem, health, process, strays

PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Run:
    """One changing command under way."""

    app: App
    action: str
    who: str
    reason: str
    lock: int
    log: RunLog
    facts: dict[str, object] = field(default_factory=dict)  # what the journal gets to know at the end
    by_timer: bool = False  # a `deploy --if-changed`: the same failure is told once, not at each tick
    is_for_live: bool = False  # asked to change what is live
    done: str = ""  # set once what was asked for is true: what fails after that does not undo it


def make_folders(app: App) -> None:
    """The folders of an app, with explicit modes whatever the umask is."""
    layout = app.layout
    own = (layout.releases, layout.shared, layout.state, layout.logs)
    for folder in (*own, layout.reserve, layout.sets, layout.slots, layout.static_pool):
        if folder.is_symlink():  # what is in them is removed, or made
            raise PreflightFailed(
                f"{folder} is a link, and not a folder of our own", remedy=f"see where it leads, then: rm {folder}"
            )
    for folder, mode in (
        (layout.releases, 0o755), (layout.shared, 0o755), (layout.state, 0o700), (layout.logs, 0o700),
        (app.cache_folder, 0o755),
    ):  # fmt: skip
        if not folder.exists():
            folder.mkdir(mode=mode, parents=folder == app.cache_folder)
            folder.chmod(mode)
        facts = folder.stat()
        if facts.st_uid != os.geteuid() and folder in own:
            raise PreflightFailed(
                f"{folder} is not a folder of our own",
                remedy=f"see what it has: ls -la {folder}; then sudo chown {filesystem.name_of(os.geteuid())} {folder}",
            )
        if facts.st_mode & 0o022 and folder in (layout.releases, layout.state, layout.logs):
            raise PreflightFailed(
                f"{folder} is writable by others", remedy=f"see what is in it, then: chmod go-w {folder}"
            )


@contextmanager
def changing(
    app: App, action: str, *, reason: str = "", quiet: bool = False, wait_seconds: float = 0.0, by_timer: bool = False
) -> Iterator[Run]:
    """Hold the lock, keep a log, note the result; whatever fails inside gets its `site:` and `log:` lines."""
    require_owner(app)
    os.umask(0o022)  # a release is read by the site's user and by nginx, whatever the person's own umask is
    with ExitStack() as held:
        try:
            make_folders(app)
            # before the lock, and so closed after it: the terminal may take its time
            terminal = None if quiet or sys.stdout is None else held.enter_context(closing(Terminal(sys.stdout)))
            lock = held.enter_context(app_lock(app.layout, action=action, who=who_runs(), wait_seconds=wait_seconds))
            log = open_log(app, action, terminal)
            log.add_secrets(masking.secrets_of(app))
        except (OSError, PreflightFailed) as refused:
            failed = durable.storage_failed(refused) if isinstance(refused, OSError) else refused
            failed.site = f"{site_state(app)}; nothing live was changed"
            raise failed from (None if failed is refused else refused)
        config.remember(app.root)
        run = Run(app, action, who_runs(), log.mask(reason), lock, log, by_timer=by_timer)
        # a core would have the secrets of our memory, or of a program's that we start, beside the code
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        # a program's stray children become ours, so that none of them keeps the lock unseen
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        began = time.monotonic()
        let_go = terminal.let_go if terminal else lambda: None
        with closing(log), interruption.handled(log.say, let_go):
            try:
                with process.never_left_running():
                    _note_start(run)
                    yield run
                interruption.defer_from_now_on()
                run.done = run.done or "what was asked for is done"
                seconds = round(time.monotonic() - began, 1)
                durable.with_reserve(app.layout.reserve, lambda: _note(run, f"{action}_finished", seconds=seconds))
                remove_old(app.layout.logs, log.warn)
                notify(run, None)
            except Explained as error:
                _fail(run, error)
                raise
            except OSError as error:
                failed = durable.storage_failed(error)
                _fail(run, failed)
                raise failed from error
            except Exception as error:
                found = bug(error)
                found.site = site_state(app)
                _fail(run, found)
                raise found from error
            finally:
                strays.end_holders_below(lock)


def _fail(run: Run, error: Explained) -> None:
    """Tell everyone: the log, the journal, the webhook; who started the run is told by what is raised.

    A second signal, or a closed terminal, does not stop that.
    """
    interruption.defer_from_now_on()
    _explain(run, error)
    if isinstance(error, BugFound):
        run.log.event("traceback", text="".join(traceback.format_exc()))
    _note_quietly(run, f"{run.action}_failed", code=error.code, exit_code=error.exit_code)
    if run.by_timer and not {"to", "built"} & set(run.facts) and not isinstance(error, Held | NotNow | Interrupted):
        _note_try(run, error)
    notify(run, error)


def _note_try(run: Run, error: Explained) -> None:
    """A timer's try that came to no release: the revision, where it is known, waits, and the same is told once."""
    try:
        error.told_before = timer.note_failure(run.app, str(run.facts.get("revision", "")), error.code)
    except ReleaseError as second:
        run.log.warn(second.message)


def open_log(app: App, action: str, terminal: Terminal | None) -> RunLog:
    """The run's log, of a second that no other has; where the disk refuses a new file, a run without one."""
    moment, taken = datetime.now(UTC), {path.name[:19] for path in app.layout.logs.glob("*.log")}
    while moment.strftime(TIME) in taken:
        moment += timedelta(seconds=1)
    path = app.layout.logs / f"{moment.strftime(TIME)}-{action}.log"
    opened: list[RunLog] = []
    try:
        durable.with_reserve(app.layout.reserve, lambda: opened.append(RunLog(path, terminal)))
    except ReleaseError as error:
        opened.append(RunLog(Path(os.devnull), terminal))
        opened[0].warn(f"this run has no log: {error.message}")
    return opened[0]


def _note(run: Run, event: str, **facts: object) -> None:
    reason = {"reason": run.reason} if run.reason else {}
    told = run.log.mask.all_of({"who": run.who, **reason, **run.facts, **facts})
    run.log.event(event, **told)
    journal.write(run.app.layout.journal, run.app.name, event, **told)


def _note_start(run: Run) -> None:
    """What is not in the history does not begin; but what makes room must work where there is none."""
    try:
        durable.with_reserve(run.app.layout.reserve, lambda: _note(run, f"{run.action}_started"))
    except ReleaseError as error:
        if run.action != "prune" or error.remedy != durable.MAKE_ROOM:
            raise
        run.log.warn(error.message)


def _note_quietly(run: Run, event: str, **facts: object) -> None:
    """A failure is reported even when the history cannot be written (a full disk)."""
    try:
        durable.with_reserve(run.app.layout.reserve, lambda: _note(run, event, **facts))
    except ReleaseError as error:
        run.log.warn(error.message)


def _explain(run: Run, error: Explained) -> None:
    if run.done:
        error.exit_code, error.site = 21, f"{site_state(run.app)}; {run.done}, but not all that follows it"
    if not error.site:
        error.site = f"{site_state(run.app)}; nothing live was changed"
    if durable.RECOVER not in error.remedy:  # what has to be finished first is told already
        error.remedy = room.remedy_for(run.app, error.message, error.details) or error.remedy
    if run.log.path != Path(os.devnull):
        error.log = f"bb-release log {run.log.path.stem}"
    error.message, error.details = run.log.mask(error.message), run.log.mask(error.details)
    error.site, error.remedy = run.log.mask(error.site), run.log.mask(error.remedy)
    run.log.event("failed", code=error.code, message=error.message, details=error.details, site=error.site)


def site_state(app: App) -> str:
    """In what state the site is at this moment, seen and not remembered."""
    try:
        live = activation.current(app.layout)
        last = live or last_live(app)
    except StateUnreadable as error:
        return f"{error.message}; {health_now(app)}"
    except OSError as error:
        return f"what is live cannot be seen ({error.filename}: {error.strerror}); {health_now(app)}"
    if live:
        return f"still on {live.describe()}, {health_now(app, live)}{instances.but_serves(app)}"
    return f"{not_live(app).message}: {command_to(last)}; {health_now(app)}" if last else "nothing is live yet"


def last_live(app: App) -> Release | None:
    """The release that went live last, by the number of its activation; none where none ever did."""
    lived = [release for release in releases.readable(app.layout)[0] if release.activated_sequence]
    return max(lived, key=lambda release: release.activated_sequence, default=None)


def command_to(release: Release) -> str:
    """What a person types to make a release live."""
    return f"bb-release switch {release.name}" + (" --force" if release.state is State.BAD else "")


def not_live(app: App) -> NoSuchRelease:
    """Why there is no live release: none was ever, or its link is gone. To be raised by who needs one."""
    last = last_live(app)
    if last is None:
        return NoSuchRelease("nothing is live yet", remedy="bb-release deploy")
    return NoSuchRelease(
        f"{app.layout.current} is not there, and {last.describe()} was live last", remedy=command_to(last)
    )


def health_now(app: App, live: Release | None = None) -> str:
    """One question to the site, five seconds at the most: its status, its text, and the live release, where named."""
    wanted = app.health
    if wanted is None:
        return "health not asked (none is configured)"
    try:
        answer = health.ask(wanted.url, headers=dict(wanted.headers), timeout_seconds=5.0)
    except health.NoAnswer as error:
        return f"not healthy: {error}"
    if answer.status != wanted.expect:
        return f"not healthy: it answers {answer.status}"
    where, name = (wanted.release, live.name) if live else ("", "")
    problem = health.problem_of(answer, wanted.url, wanted.expect, wanted.body, where, name)
    return masking.mask_of(app)(f"not healthy: {problem.message}") if problem else "healthy"


def wait_well(wanted: Health, release: str) -> health.Well:
    """Ask until the site is well by all that the configuration says. Raises NotHealthy."""
    return health.wait_healthy(
        wanted.url, expect=wanted.expect, headers=dict(wanted.headers), body=wanted.body,
        release_where=wanted.release, release=release,
        timeout_seconds=wanted.timeout_seconds, interval_seconds=wanted.interval_seconds,
    )  # fmt: skip


def environments(app: App, release: Release) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The site's environment, the environment of installers and build commands, and every secret in them.

    Raises ConfigurationInvalid.
    """
    site = site_environment.read(app)
    build = read_envfile(app.build_env_file) if app.build_env_file else {}
    secrets = [v for env in (site, build) for k, v in env.items() if k not in app.public]
    facts = {
        "BB_APP": app.name, "BB_ROOT": str(app.root), "BB_REVISION": release.manifest.revision,
        "BB_RELEASE": release.name, "BB_RELEASE_FOLDER": str(release.folder),
    }  # fmt: skip
    settings = {"DJANGO_SETTINGS_MODULE": app.settings} if app.settings else {}
    path = {"PATH": f"{release.venv / 'bin'}:{process.PATH}", "VIRTUAL_ENV": str(release.venv)}
    inline = app.inline_environment
    for_site = process.environment({**site, **inline, **settings, **facts, **path}, passed=app.pass_environment)
    for_build = process.environment({**build, **facts, **path}, passed=app.pass_environment)
    return for_site, for_build, secrets
