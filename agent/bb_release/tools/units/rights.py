"""The right to change units of the system, as sudo and polkit want it written: these units, these verbs, no more."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

SYSTEMCTL = "/usr/bin/systemctl"  # the full path: a sudoers line names it so
SUDOERS = "/etc/sudoers.d/bb-release"
POLKIT = "/etc/polkit-1/rules.d/50-bb-release.rules"
RESTART = ("start", "restart", "reset-failed")
BESIDE = (*RESTART, "stop")  # an instance that is stopped once another has taken over
RELOAD = ("reload",)
SOCKET = ("start", "reset-failed")
QUESTIONS = {"restart": "try-restart", "reload": "reset-failed"}  # what SystemdUnit.check_can needs besides

Grants = Mapping[str, Sequence[str]]  # the verbs of each unit, which has its suffix: app.service


@dataclass(frozen=True)
class Question:
    """How the right to change one unit is tried: polkit by doing what does nothing, sudo by asking for the words."""

    unit: str
    harmless: tuple[str, ...]
    wanted: tuple[str, ...]


def questions(verb: str, unit: str, handover: str, states: Mapping[str, str]) -> Iterator[Question]:
    """What to ask before a unit is restarted (or reloaded). `states` are ActiveState= of it and of its sockets.

    systemd has no question for the right alone. `reset-failed` does nothing to a unit that has not failed, nor
    `try-restart` to one that does not run, nor `start` to a socket that listens.
    """
    down = states[unit] in ("inactive", "failed")
    beside = handover == "blue-green"
    harmless = ("try-restart" if down else "reset-failed", *(("stop",) if beside and down else ()))
    yield Question(unit, harmless, (verb, *(("start", "stop") if beside else ())))
    # a socket that failed with its service is started again; where requests do not wait in it, it is left alone
    if verb == "restart" and handover != "restart":
        for name in (name for name in states if name != unit):
            yield Question(name, ("start" if states[name] == "active" else "reset-failed",), SOCKET)


def user_name() -> str:
    """Return who we are, as sudoers and polkit write it; a user without a name is #uid."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"#{os.geteuid()}"


def sudoers(user: str, grants: Grants) -> str:
    """Return the line that allows exactly the verbs on exactly the units.

    sudo compares word by word, so neither another unit nor one more option fits. sudoers(5) wants some
    characters escaped, and names of units may hold them: systemd-escape writes `\\x2d`.
    """
    commands = [
        f"{SYSTEMCTL} {verb} " + re.sub(r"([,:=\\])", r"\\\1", unit) for unit, verbs in grants.items() for verb in verbs
    ]
    return f"{user} ALL=(root) NOPASSWD: {', '.join(commands)}"


def polkit_rule(user: str, grants: Grants) -> str:
    """Return the rule that allows the same, and the questions by which the right itself is tried.

    systemd tells polkit the unit and the verb (since 226). Rules in JavaScript need polkit 0.106 or newer.
    """
    allowed = {
        unit: [*verbs, *(QUESTIONS[verb] for verb in verbs if verb in QUESTIONS)] for unit, verbs in grants.items()
    }
    return (
        "polkit.addRule(function(action, subject) {\n"
        f"  var allowed = {json.dumps(allowed)};\n"
        '  if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == ' + json.dumps(user) + " &&\n"
        '      (allowed[action.lookup("unit")] || []).indexOf(action.lookup("verb")) >= 0)\n'
        "    return polkit.Result.YES;\n"
        "});"
    )


def both_ways(user: str, grants: Grants) -> str:
    """Return what root writes into which file so that the user may change the units: sudo, or polkit."""
    return (
        f"as root, one of the two. For sudo, by visudo -f {SUDOERS}:\n{sudoers(user, grants)}\n"
        f"Or for polkit, in {POLKIT}:\n{polkit_rule(user, grants)}"
    )
