"""What makes a template unfit to run twice, the new release beside the old one: blue-green refuses it.

Each would end with a site that is down, or with old code under the new release's name, where another user's processes
show nothing that could prove it.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from bb_release.actions import instances
from bb_release.actions.written import Findings, Written, is_below
from bb_release.model import slots

TWICE = {"beat": "is a beat", "-B": "has a beat inside (-B)"}
ALONE = {
    "beat": "no template: beat is one unit, which is restarted",
    "-B": "take -B out, and give beat a unit of its own",
}
# each leaves a path through the link in a running process, which follows it from the moment of the switch
FOLDER_OPTIONS = ("--chdir", "--pythonpath", "--app-dir", "--workdir")


def beside(it: Written) -> Findings:
    """Why an instance must not be started beside the other one. Raises nothing."""
    yield from twice(it)
    if it.unit.socket:  # a worker is started when `current` has moved
        yield from elsewhere(it)
        yield from listens(it)


def twice(it: Written) -> Findings:
    if it.beat:
        yield it.wrong(f" {TWICE[it.beat]}: while two instances run, each task is sent twice", ALONE[it.beat])


def elsewhere(it: Written) -> Findings:
    """It starts before `current` moves, and would import the release that is live."""
    old = "it starts before that link moves, and would run the old release's code"
    current = str(it.app.layout.current)
    if is_below(it.facts.get("WorkingDirectory", "").lstrip("!-"), current):
        yield it.wrong(f" works in {current}: {old}", f"{it.FOLDER}={it.project}")
    yield from through_current(it, current, old)


def through_current(it: Written, link: str, why: str) -> Findings:
    """Each option and variable that has it import through `current`, called `link` there, and why that is wrong."""
    current = str(it.app.layout.current)
    for name in FOLDER_OPTIONS:
        if any(is_below(path, current) for path in it.option(name).split(",")):
            yield it.wrong(f" starts with {name} {it.option(name)}: {why}",
                           f"take {name} out; {it.FOLDER}={it.project}")  # fmt: skip
    for name in ("PWD", "PYTHONPATH"):
        if any(is_below(path, current) for path in it.environment.get(name, "").split(":")):
            yield it.wrong(f" has {name}= through {link}: {why}", f"take Environment={name}=… out")


def listens(it: Written) -> Findings:
    """A server removes what lies at its address, and takes it away again when it ends: the other instance's socket."""
    others = [it.unit.socket, str(instances.socket_of(it.unit, slots.other(instances.colour_of(it.unit))))]
    # gunicorn's, and those of others: that it has a -u (its user) is no reason not to look for its -b
    for address in (*it.values("-b", "--bind"), *it.values("--uds", "-u", "--unix-socket")):
        path = address.strip("'\";").removeprefix("unix:")
        if path.startswith("/") and _place(path) in map(_place, others):
            own = instances.socket_of(it.unit, "%i")
            yield it.wrong(f" listens at {_place(path)}: it would take that away from what serves",
                           f"{it.START}=… {own}")  # fmt: skip


def _place(path: str) -> Path:
    """The same for each way to write it: //run/…, and /var/run, which is a link."""
    name = PurePath("/" + path.lstrip("/"))
    return Path(os.path.realpath(name.parent)) / name.name
