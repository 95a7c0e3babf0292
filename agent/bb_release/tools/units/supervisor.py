"""A program or group of Supervisor, over its XML-RPC on a unix socket or on this host's loopback."""

from __future__ import annotations

import http.client
import time
import xmlrpc.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from xml.parsers.expat import ExpatError

from bb_release.errors import ConfigurationInvalid, UnitsNotRestarted
from bb_release.tools import host
from bb_release.tools.units import UnitSettings, UnitState, Verb, listening
from bb_release.tools.units.supervisord import COMMAND, CONFIGURED, MALFORMED, PROCESS, RESULT, Transport, fits

ASK_SECONDS = 10.0
LOG_BYTES = 16384
MAIN_LOG_BYTES = 262_144  # of supervisord's own, which writes a line for each start and each end
STARTS = 3
# supervisor/xmlrpc.py, Faults
BAD_NAME, NO_FILE, NOT_EXECUTABLE, ABNORMAL_TERMINATION, SPAWN_ERROR = 10, 20, 21, 40, 50
ALREADY_STARTED, NOT_RUNNING, SUCCESS = 60, 70, 80
SEE_LOG = "see the program's log (stderr_logfile) and supervisorctl status"
REMEDIES = {
    BAD_NAME: "give the name as `supervisorctl status` shows it: program, group:program or group:*; "
    "after a change of its configuration run supervisorctl update",
    NO_FILE: "the program's command does not exist: correct `command` in Supervisor's configuration",
    NOT_EXECUTABLE: "the program's command is not executable: correct `command` or its mode",
}


class SupervisorUnit:
    """`name` is "program", "group:program" or "group:*"."""

    def __init__(self, settings: UnitSettings) -> None:
        """Raises ConfigurationInvalid when `socket` is no unix socket's path and not on this host."""
        self._settings = settings
        address = settings.socket.removeprefix("unix://")
        self._path, self._url = address, "http://localhost/RPC2"
        if address.startswith("http://"):
            if urlsplit(address).hostname not in ("127.0.0.1", "localhost", "::1"):
                raise ConfigurationInvalid(
                    f"the supervisord of the unit {settings.name} is not on this host",
                    remedy="use its unix socket, or http://127.0.0.1:PORT",
                )
            self._path, self._url = "", f"{address.rstrip('/').removesuffix('/RPC2')}/RPC2"
        elif not address.startswith("/"):
            raise ConfigurationInvalid(
                f'the unit {settings.name} has no supervisord to ask: socket is "{settings.socket}"',
                remedy="set socket to `file` of [unix_http_server] (an absolute path), or http://127.0.0.1:PORT",
            )
        self._group = settings.name.removesuffix(":*") if settings.name.endswith(":*") else ""
        self._told: dict[int, tuple[str, str]] = {}  # the processes that were told to stop, with group and name

    def state(self) -> UnitState:
        """Ask supervisord. A group runs when all its programs run; its main process is the first one's."""
        infos = self._infos()
        pids = [info["pid"] for info in infos if info["pid"]]
        main = pids[0] if pids else 0
        words = sorted({f"{info['statename']} {info['spawnerr']}".strip() for info in infos})
        return UnitState(
            running=all(info["statename"] == "RUNNING" for info in infos),
            main_pid=main,
            summary=", ".join(words),
            # where /proc hides other users' processes, supervisord still tells: in whole seconds, so at the latest
            started=(host.started_at(main) or next(i["start"] for i in infos if i["pid"]) + 1.0) if main else None,
            invocation=" ".join(f"{info['pid']}:{info['start']}" for info in infos),
        )

    def check_can(self, verb: Verb) -> str:
        """Make sure that supervisord answers us and knows the unit: whoever reaches its socket may do all."""
        infos = self._infos()
        if verb == "restart" and self._settings.handover == "socket":
            self._require_shared_socket(infos)
        if verb == "reload" and not any(info["pid"] for info in infos):
            raise UnitsNotRestarted(
                f"{self._settings.name} does not run, so it cannot be reloaded",
                remedy=f"start it: {self._by_hand('start')}",
            )
        return ""

    def _require_shared_socket(self, infos: list[dict[str, Any]]) -> None:
        """Requests wait only in a socket that all programs have from supervisord. Raises UnitsNotRestarted."""
        seen = [listening.sockets_of(info["pid"]) for info in infos if info["pid"]]
        known = [sockets for sockets in seen if sockets is not None]
        shared = set.intersection(*known) if known else set()
        if len(infos) < 2 or (known and not shared):
            raise UnitsNotRestarted(
                f"the programs of {self._settings.name} cannot take over from each other: it takes two, and one socket",
                remedy="write it as an [fcgi-program:x] with socket=tcp://127.0.0.1:PORT, numprocs=2 and gunicorn"
                ' --bind fd://0; or handover = "restart"',
            )
        gunicorns = [pid for info in infos if (pid := info["pid"]) and "gunicorn" in " ".join(host.words_of(pid))]
        if gunicorns and listening.have_path(shared):
            raise UnitsNotRestarted(
                f"gunicorn removes a unix socket when it ends: the first program of {self._settings.name} would close"
                " the site",
                remedy="give the [fcgi-program:x] a socket=tcp://127.0.0.1:PORT, and nginx the same",
            )

    def stop_command(self) -> str:
        """Return the command by which a person stops the unit; out of the configuration it comes no more."""
        return self._by_hand("stop")

    def _by_hand(self, verb: str) -> str:
        address = f"unix://{self._path}" if self._path else self._settings.socket
        return f"supervisorctl -s {address} {verb} {self._settings.name}"

    def start(self) -> None:
        """Start what does not run yet, and wait until it has been up for its startsecs."""
        self._start(time.monotonic() + self._settings.stop_seconds)

    def restart(self) -> None:
        """Stop and start. Both together may take stop_seconds, of each program that is restarted by itself."""
        if self._settings.handover == "socket":
            self._restart_each()
            return
        deadline = time.monotonic() + self._settings.stop_seconds
        for _ in range(STARTS):
            self._stop(deadline)
            if self._start(deadline):
                return
            # autorestart was faster than we: it may have started before the stop, so it is stopped once more
        raise UnitsNotRestarted(
            f"the unit {self._settings.name} starts again by itself faster than it can be restarted",
            remedy=SEE_LOG,
            details="\n".join(self.log_lines()),
        )

    def _restart_each(self) -> None:
        """One program after the other: supervisord holds the socket of an fcgi-program while any of them runs."""
        for info in self._infos():
            name = f"{info['group']}:{info['name']}"
            deadline = time.monotonic() + self._settings.stop_seconds
            self._told[info["pid"]] = info["group"], info["name"]
            self._call("stopProcess", name, True, deadline=deadline, accepted=NOT_RUNNING)
            self._call("startProcess", name, True, deadline=deadline, accepted=ALREADY_STARTED)

    def reload(self) -> None:
        """Send HUP: Supervisor knows no other reload of a program."""
        if self._group:
            self._judge(self._call("signalProcessGroup", self._group, "HUP"), (SUCCESS,))
        else:
            self._call("signalProcess", self._settings.name, "HUP")

    def log_lines(self, count: int = 20) -> list[str]:
        """Return the last lines of stderr, or of stdout where stderr is empty; none where unreadable."""
        lines: list[str] = []
        try:
            for info in self._infos():
                name = f"{info['group']}:{info['name']}"
                for method in ("tailProcessStderrLog", "tailProcessStdoutLog"):
                    answer = self._call(method, name, 0, LOG_BYTES)  # the text, an offset, whether there was more
                    text = answer[0] if isinstance(answer, list) and answer else ""
                    if isinstance(text, str) and text.strip():
                        lines += text.splitlines()[-count:] if count > 0 else []
                        break
        except UnitsNotRestarted:
            return lines
        return lines[-count:] if count > 0 else []

    def processes(self) -> list[int]:
        """Return the programs' processes and all that descend from them."""
        pids = {pid for info in self._infos() if info["pid"] for pid in host.process_tree(info["pid"])}
        return sorted(pids)

    def cut_off(self) -> float | None:
        """Look in supervisord's own log for a process that it killed because stopwaitsecs were over.

        Nothing else is certain: it looks once a second, until then a program may end by itself, and of the moment it
        tells whole seconds. Even there only the end tells: it says that it kills also of what has just ended. None too
        where it keeps no log, or one of warnings only, and before 4.2: it tells no limit.
        """
        try:
            log = str(self._call("readLog", -MAIN_LOG_BYTES, 0))
            limits = {(program["group"], program["name"]): program["stopwaitsecs"] for program in self.configured()}
        except UnitsNotRestarted:
            return None
        for pid, (group, name) in self._told.items():
            _, said, rest = log.partition(f"killing '{name}' ({pid}) with SIGKILL")
            how = rest.partition(f" stopped: {name} (")[2].partition(")")[0]
            if said and how.startswith("terminated by SIGKILL") and (group, name) in limits:
                return float(limits[group, name])
        return None

    def starts_through(self, folder: str) -> bool:
        """Whether each program's command names a path below the folder."""
        infos = self._infos()
        configured = self._checked(self._call("getAllConfigInfo"), COMMAND)
        known = {(info["group"], info["name"]): info["command"] for info in configured}
        return all(f"{folder}/" in known.get((info["group"], info["name"]), "") for info in infos)

    def configured(self) -> list[dict[str, Any]]:
        """Return what supervisord has read of each program (4.2 or newer), with its pid."""
        told = self._checked(self._call("getAllConfigInfo"), CONFIGURED)
        known = {(info["group"], info["name"]): info for info in told}
        pids = {(info["group"], info["name"]): info["pid"] for info in self._infos()}
        return [{**known[name], "pid": pid} for name, pid in pids.items() if name in known]

    def _infos(self) -> list[dict[str, Any]]:
        """Return supervisord's facts of each program of the unit; never none."""
        if not self._group:
            return self._checked([self._call("getProcessInfo", self._settings.name)], PROCESS)
        all_infos = self._checked(self._call("getAllProcessInfo"), PROCESS)
        infos = [info for info in all_infos if info["group"] == self._group]
        if not infos:
            raise UnitsNotRestarted(
                f"supervisord knows no group {self._group}, or it has no programs", remedy=REMEDIES[BAD_NAME]
            )
        return infos

    def _stop(self, deadline: float) -> None:
        self._told |= {info["pid"]: (info["group"], info["name"]) for info in self._infos()}
        if self._group:
            results = self._call("stopProcessGroup", self._group, True, deadline=deadline)
            self._judge(results, (SUCCESS, NOT_RUNNING))
        else:
            self._call("stopProcess", self._settings.name, True, deadline=deadline, accepted=NOT_RUNNING)

    def _start(self, deadline: float) -> bool:
        """Start all; False when something ran already."""
        if not self._group:
            name = self._settings.name
            done = self._call("startProcess", name, True, deadline=deadline, accepted=ALREADY_STARTED)
            return done is not None
        # startProcessGroup passes silently over programs that run, also those that supervisord brought back
        ran = any(info["pid"] for info in self._infos())
        self._judge(self._call("startProcessGroup", self._group, True, deadline=deadline), (SUCCESS,))
        return not ran

    def _judge(self, results: Any, accepted: tuple[int, ...]) -> None:
        """Raise UnitsNotRestarted for the first program of a group whose status is not accepted."""
        for result in self._checked(results, RESULT):
            if result["status"] not in accepted:
                name = f"{result['group']}:{result['name']}"
                raise self._failure(name, result["status"], result["description"])

    def _checked(self, answer: Any, kinds: Mapping[str, type]) -> list[dict[str, Any]]:
        """The answer, once it is a list of what it should be. Raises UnitsNotRestarted: nothing of it is believed."""
        if isinstance(answer, list) and all(fits(one, kinds) for one in answer):
            return answer
        raise self._unreadable("it is not what supervisord says")

    def _unreadable(self, why: object) -> UnitsNotRestarted:
        return UnitsNotRestarted(
            f"supervisord at {self._path or 'its port'} gave an answer that cannot be read: {why}",
            remedy="is `socket` really supervisord's?",
        )

    def _call(self, method: str, *args: Any, deadline: float | None = None, accepted: int = 0) -> Any:
        """Call supervisord; None when it refused with the `accepted` fault. Raises UnitsNotRestarted."""
        seconds = ASK_SECONDS if deadline is None else max(0.1, deadline - time.monotonic())
        proxy = xmlrpc.client.ServerProxy(self._url, transport=Transport(self._path, seconds))
        name, where = self._settings.name, self._path or "its port"
        try:
            with proxy:
                return getattr(proxy.supervisor, method)(*args)
        except xmlrpc.client.Fault as fault:
            if accepted and fault.faultCode == accepted:
                return None
            code = fault.faultCode if isinstance(fault.faultCode, int) else 0
            raise self._failure(name, code, str(fault.faultString)) from fault
        except TimeoutError as error:
            raise UnitsNotRestarted(
                f"supervisord did not finish {method} of the unit {name} within {seconds:.0f} s",
                remedy="raise stop_seconds of this unit above its stopwaitsecs and startsecs together",
            ) from error
        except xmlrpc.client.ProtocolError as error:  # its own text would show a password in the address
            raise UnitsNotRestarted(
                f"supervisord at {where} answered {error.errcode} {error.errmsg}",
                remedy="401: it wants a name and password; give it a [unix_http_server] without, closed by its mode",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnitsNotRestarted(
                f"supervisord of the unit {name} cannot be asked at {where}: {error}",
                remedy="is supervisord running, is `socket` its [unix_http_server] file, and may this user "
                "write to it (chown= and chmod= there)?",
            ) from error
        except (ExpatError, xmlrpc.client.Error, *MALFORMED) as error:
            raise self._unreadable(error) from error

    def _failure(self, name: str, code: int, text: str) -> UnitsNotRestarted:
        details = ""
        if code in (ABNORMAL_TERMINATION, SPAWN_ERROR):  # the program's own words say why
            details = "\n".join(self.log_lines())
        return UnitsNotRestarted(
            f"supervisord could not do this with the unit {name}: {text}",
            remedy=REMEDIES.get(code, SEE_LOG),
            details=details,
        )
