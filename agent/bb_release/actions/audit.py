"""What would go wrong with a unit as systemd has read it, in plain words, each with the line to change.

A function of what `systemctl show` says, and of gunicorn's own file. It judges units that run the release, and those
of our own templates are without any finding. The consequences were measured: systemd 252, gunicorn 20.1 to 27, Celery
5.7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from bb_release.actions.audit_beside import FOLDER_OPTIONS, beside, through_current
from bb_release.actions.instances import BLUE_GREEN
from bb_release.actions.written import PYTHON, Findings, Written, has_pool, is_below, is_worker
from bb_release.config_rules import LOOKS_SECRET
from bb_release.model.app import App, Unit
from bb_release.model.fact import Fact, warn
from bb_release.tools.units.properties import number, seconds

PROPERTIES = (
    "LoadState", "UnitFileState", "ExecStart", "ExecReload", "WorkingDirectory", "KillMode", "TimeoutStopUSec",
    "Environment", "EnvironmentFiles", "TriggeredBy", "PrivateTmp", "ProtectHome", "ProtectSystem", "ReadOnlyPaths",
    "ReadWritePaths", "RuntimeDirectory", "RuntimeDirectoryPreserve", "NeedDaemonReload",
)  # fmt: skip
OF_SOCKET = ("LoadState", "Backlog", "Listen", "FlushPending", "NeedDaemonReload")
# gunicorn takes what systemd holds by itself; these have to be told its number (sd_listen_fds(3): the first is 3)
TAKES_SOCKET = {"uvicorn": "--fd 3", "daphne": "--fd 3", "hypercorn": "--bind fd://3"}
_TAKEN = re.compile(r"--fd[= ]|\bfd:|\bsystemd:")
ENOUGH_WAITING = 2048  # requests that wait in the socket while the service restarts
GRACEFUL_SECONDS = 30.0  # gunicorn's own default


def audit(
    app: App, unit: Unit, facts: Mapping[str, str], sockets: Mapping[str, Mapping[str, str]] | None = None
) -> Findings:
    """Every finding about one unit of systemd; none about a unit that does not run the release.

    `facts` are PROPERTIES, `sockets` the OF_SOCKET of each socket unit that starts it. Raises nothing.
    """
    if not unit.runs_release or facts.get("LoadState") != "loaded":
        return
    written = Written(app, unit, facts)
    looks = (
        stale, start, mixing, reload, folder, kill, stop, beat, hidden, own_folder, environment, secrets, shut_away,
    )  # fmt: skip
    for look in looks:
        yield from look(written)
    for name, socket in (sockets or {}).items():
        for of_socket in (backlog, flush, taken, shut_away):
            yield from of_socket(written, name, socket)
        yield from stale(written, name, socket)


def stale(it: Written, name: str = "", socket: Mapping[str, str] | None = None) -> Findings:
    """A restart starts what systemd has read, and so does every look here judge that."""
    if (it.facts if socket is None else socket).get("NeedDaemonReload") == "yes":
        yield warn(f"{name or it.unit.name} was changed since systemd read it: what is seen here, and what a restart"
                   " starts, are the lines of before", f"{it.systemctl} daemon-reload")  # fmt: skip


def start(it: Written) -> Findings:
    """Every path goes through the link, which the kernel follows at each start: no unit is changed by a deploy."""
    if not it.starts_through_link:
        whole = "   (bb-release units shows it whole)" if it.unit.kind == "systemd" else ""
        yield it.wrong(f" does not start through {it.base}: a restart would not change its release",
                       f"{it.START}={it.base}/venv/bin/{it.server or '…'} …{whole}")  # fmt: skip


def mixing(it: Written) -> Findings:
    """A running process of which a path still goes through `current` imports from the next release after a switch.

    The script of a virtual environment names the release's own interpreter in its first line. A slot is led
    elsewhere only while nothing runs from it.
    """
    if it.unit.handover == BLUE_GREEN:
        yield from beside(it)
        if it.unit.socket:
            return
    late = "a worker that starts late, or imports late, mixes two releases"
    interpreter = next((i for i, word in enumerate(it.words) if PYTHON.fullmatch(PurePath(word).name)), -1)
    if it.unit.handover != BLUE_GREEN and interpreter >= 0 and it.words[interpreter].startswith(f"{it.base}/"):
        after = it.words[interpreter + 1 :]
        run = next((word for word in after if word == "-m" or not word.startswith("-")), "")
        if run == "-m" or run.startswith(f"{it.base}/venv/bin/"):
            what = f"python -m {it.server}".strip() if run == "-m" else f"python {run}"
            yield it.wrong(f" starts as {what}: {late}", f"{it.START}={it.base}/venv/bin/{it.server or 'PROGRAM'} …")
    yield from through_current(it, "the link", late)


def reload(it: Written) -> Findings:
    """HUP keeps the main process, and with it the virtual environment of the release that it was started from."""
    if it.facts.get("ExecReload"):
        yield it.wrong(" can be reloaded, which keeps the old packages under new code, or all of the old release",
                       "take ExecReload= out: then reload is refused, and reload-or-restart restarts")  # fmt: skip


def folder(it: Written) -> Findings:
    """The main process has its folder in the release: it is imported from there, and proof looks at it."""
    path = it.facts.get("WorkingDirectory", "").lstrip("!-")
    if is_below(path, it.base) or any(is_below(it.option(name), it.base) for name in FOLDER_OPTIONS):
        return
    yield it.wrong(f" works in {path or '/'}, not in the release: a deploy could not be proven",
                   f"{it.FOLDER}={it.project}")  # fmt: skip


def kill(it: Written) -> Findings:
    mode = it.facts.get("KillMode", "")
    if mode in ("none", "process"):
        yield it.wrong(f" has KillMode={mode}: what outlives its main process goes on in the old release",
                       "KillMode=mixed")  # fmt: skip
    if mode == "control-group" and has_pool(it):
        yield it.wrong(" has KillMode=control-group (the default): TERM reaches its pool too, and kills the tasks"
                       " that are running", "KillMode=mixed")  # fmt: skip


def stop(it: Written) -> Findings:
    """The manager kills what is left after this time, and says nothing of what was cut."""
    limit = seconds(it.facts.get("TimeoutStopUSec", ""))
    if limit is None:
        if is_worker(it) and it.facts.get("TimeoutStopUSec") == "infinity":
            yield it.wrong(f" has {it.STOP}=infinity: a task longer than {it.unit.stop_seconds:g} s (stop_seconds)"
                           " fails a deploy, and its way back", f"{it.STOP}= the longest task, in seconds")  # fmt: skip
        return
    if it.server == "gunicorn":
        said = it.option("--graceful-timeout") or it.configured("graceful_timeout")
        wish, unless = number(said) or GRACEFUL_SECONDS, "" if said else ", unless its own configuration says less"
        what = f"gunicorn's graceful timeout ({wish:g} s{unless}): longer requests are cut"
    elif it.server == "uvicorn":
        wish = float(number(it.option("--timeout-graceful-shutdown")))
        what = f"uvicorn's --timeout-graceful-shutdown ({wish:g} s): longer requests are cut"
    elif is_worker(it):
        wish = float(max(number(it.option(name)) for name in ("--time-limit", "--soft-time-limit")))
        what = f"the time limit of its tasks ({wish:g} s): longer tasks are killed and lost"
        if wish <= limit:
            yield Fact(f"{it.unit.name}: a restart gives running tasks {limit:g} s ({it.STOP}=), then kills them")
    else:
        return
    if limit < wish:
        yield it.wrong(f" has {it.STOP}={limit:g}, less than {what}", f"{it.STOP}={wish + 15:g}")


def beat(it: Written) -> Findings:
    """Celery's beat keeps its last runs in a file, by default in its folder."""
    if not it.beat or it.option("-S", "--scheduler"):
        return  # a scheduler of its own keeps it elsewhere, such as in the database
    path = it.option("-s", "--schedule", "--schedule-filename")
    if not path.startswith("/") or is_below(path, str(it.app.layout.current)) or str(it.app.layout.releases) in path:
        yield it.wrong(" keeps beat's schedule in the release: each deploy begins with an empty one (unless the"
                       " settings name another scheduler or file)",
                       it.schedule)  # fmt: skip


def hidden(it: Written) -> Findings:
    """Paths that the unit's own hardening takes from it, or shows to it alone."""
    bind = (it.option("-b", "--bind") or it.option("--uds", "--fd")).removeprefix("unix:")
    paths = [path for path in (str(it.app.root), bind) if path.startswith("/")]
    for path in paths:
        if it.facts.get("PrivateTmp") not in ("", "no", None) and _is_in(path, "/tmp", "/var/tmp"):  # noqa: S108
            yield it.wrong(f" has PrivateTmp=: its {path} is not the one that others see", "PrivateTmp=no, or a path"
                           " elsewhere (RuntimeDirectory= makes one in /run)")  # fmt: skip
        if it.facts.get("ProtectHome") in ("yes", "tmpfs") and _is_in(path, "/home", "/root", "/run/user"):
            yield it.wrong(f" has ProtectHome={it.facts['ProtectHome']}, which hides {path}", "ProtectHome=no")
    closed = it.facts.get("ReadOnlyPaths", "").split()
    if it.facts.get("ProtectSystem") == "strict":
        closed.append("/")
    opened = [path.lstrip("-+") for path in it.facts.get("ReadWritePaths", "").split()]
    shared = [str(it.app.layout.shared / name) for name in (*it.app.shared_folders, *it.app.shared_files)]
    shut = [path for path in shared if _is_in(path, *(p.lstrip("-+") for p in closed)) and not _is_in(path, *opened)]
    if shut:
        yield it.wrong(f" may not write {shut[0]}, which is shared", f"ReadWritePaths={it.app.layout.shared}")


def own_folder(it: Written) -> Findings:
    """systemd removes RuntimeDirectory= with the instance that stops, and the other's socket in it."""
    names = it.facts.get("RuntimeDirectory", "").split()
    colour = it.base.rpartition("/")[2]
    if it.unit.handover == BLUE_GREEN and it.facts.get("RuntimeDirectoryPreserve") == "no":
        for name in (name for name in names if colour not in name):
            yield it.wrong(f" shares RuntimeDirectory={name} with its other instance, and removes it when it stops",
                           "RuntimeDirectoryPreserve=yes")  # fmt: skip


def environment(it: Written) -> Findings:
    """What manage.py gets, the unit has to get: else one migrates a database that the other does not use."""
    files = [line.partition(" (ignore_errors=")[0] for line in it.facts.get("EnvironmentFiles", "").splitlines()]
    wanted = str(it.app.env_file or "")
    if wanted and wanted not in files and wanted not in it.facts.get("ExecStart", ""):
        yield it.wrong(f" does not read {wanted}, which manage.py gets: they may use two databases",
                       f"EnvironmentFile={wanted}")  # fmt: skip
    for file in files:
        if file.endswith("/release.env") and is_below(file, str(it.app.root)) and not is_below(file, it.base):
            yield it.wrong(f" reads {file}, which may name another release than the one that it starts from",
                           f"EnvironmentFile={it.base}/release.env")  # fmt: skip
    settings = it.environment.get("DJANGO_SETTINGS_MODULE", "")
    if settings and it.app.settings and settings != it.app.settings:
        yield it.wrong(f" runs with {settings}, and manage.py with {it.app.settings}",
                       f"Environment=DJANGO_SETTINGS_MODULE={it.app.settings}")  # fmt: skip


def secrets(it: Written) -> Findings:
    """`systemctl show` tells Environment= to every user of the host; a file it only names."""
    for name, value in it.environment.items():
        if LOOKS_SECRET.search(name) and name not in it.app.public and value and not value.startswith("/"):
            yield it.wrong(f" has {name} in Environment=, where every user of this host can read it",
                           f"EnvironmentFile= with a file of mode 0600 that has {name}")  # fmt: skip


def backlog(it: Written, name: str, socket: Mapping[str, str]) -> Findings:
    """A full queue only delays over TCP; at a unix socket nginx is refused, and answers 502."""
    most = number(socket.get("Backlog", ""))
    if "/" in socket.get("Listen", "") and 0 < most < ENOUGH_WAITING:
        yield warn(f"{name} has Backlog={most}: while {it.unit.name} restarts, no more requests can wait, others fail",
                   it.change("take Backlog= out", name))  # fmt: skip


def flush(it: Written, name: str, socket: Mapping[str, str]) -> Findings:
    """systemd.socket(5): the connections that wait are rejected when the service has ended."""
    if socket.get("FlushPending") == "yes":
        yield warn(f"{name} has FlushPending=yes: whoever waits while {it.unit.name} restarts is dropped",
                   it.change("take FlushPending= out", name))  # fmt: skip


def taken(it: Written, name: str, _: Mapping[str, str]) -> Findings:
    """Who listens for himself beside the socket leaves those unanswered who wait in it."""
    if it.server in TAKES_SOCKET and not _TAKEN.search(" ".join(it.options)):
        yield it.wrong(f" does not listen on {name}, which starts it: nobody answers there",
                       f"{it.START}={it.base}/venv/bin/{it.server} {TAKES_SOCKET[it.server]} …")  # fmt: skip


def shut_away(it: Written, name: str = "", socket: Mapping[str, str] | None = None) -> Findings:
    """The runtime folder of a user is that user's alone (pam_systemd(8); mode 0700)."""
    place = (it.unit.socket if it.unit.handover == BLUE_GREEN else "") if socket is None else socket.get("Listen", "")
    own = re.search(r"/run/user/\d+(?=/)", place)
    change = "socket = a path in a folder that nginx may enter, such as one in shared/"
    if socket is not None:
        change = (
            '[health] url = "http://127.0.0.1:PORT/…" with a port above 1023, and `bb-release units` writes a socket'
            " unit that listens there"
        )
    if own and it.unit.user:
        yield warn(f"{name or it.unit.name} listens below {own[0]}, which is closed to all other users: nginx gets in"
                   " there only as that user", change)  # fmt: skip


def _is_in(path: str, *tops: str) -> bool:
    return any(is_below(path, top) for top in tops)
