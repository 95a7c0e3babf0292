"""What makes a template unfit to run twice, the new release beside the old one: blue-green refuses it.

Each would end with a site that is down, or with old code under the new release's name, and no proof would show it.
"""

from __future__ import annotations

from bb_release.actions import instances
from bb_release.actions.written import Findings, Written, is_below

TWICE = {"beat": "is a beat", "-B": "has a beat inside (-B)"}
ALONE = {
    "beat": "no template: beat is one unit, which is restarted",
    "-B": "take -B out, and give beat a unit of its own",
}
# each leaves a path through the link in a running process, which follows it from the moment of the switch
FOLDER_OPTIONS = ("--chdir", "--pythonpath", "--app-dir", "--workdir")
FOLDER_VARIABLES = ("PWD", "PYTHONPATH")


def beside(it: Written) -> Findings:
    """Why an instance must not be started beside the other one. Raises nothing."""
    yield from twice(it)
    yield from elsewhere(it)
    yield from listens(it)


def twice(it: Written) -> Findings:
    if it.beat:
        yield it.wrong(f" {TWICE[it.beat]}: while two instances run, each task is sent twice", ALONE[it.beat])


def elsewhere(it: Written) -> Findings:
    """It starts before `current` moves, and would import the release that is live."""
    old = "it starts before that link moves, and would run the old release's code"
    current = str(it.app.layout.current)
    for name in FOLDER_OPTIONS:
        if is_below(it.option(name), current):
            yield it.wrong(f" starts with {name} {it.option(name)}: {old}",
                           f"take {name} out; {it.FOLDER}={it.project}")  # fmt: skip
    for name in FOLDER_VARIABLES:
        if leads_below(it, name, current):
            yield it.wrong(f" has {name}= through {current}: {old}", f"take Environment={name}=… out")


def leads_below(it: Written, name: str, top: str) -> bool:
    """Whether a variable of the unit, a path or several, leads below a folder."""
    return any(is_below(path, top) for path in it.environment.get(name, "").split(":"))


def listens(it: Written) -> Findings:
    """A server removes what lies at its address, and takes it away again when it ends: the other instance's socket."""
    bind = it.option("-b", "--bind", "--uds").removeprefix("unix:")
    wanted = instances.socket_of(it.unit, it.base.rpartition("/")[2]) if it.unit.socket else None
    if wanted and bind.startswith("/") and bind != str(wanted):
        yield it.wrong(f" listens at {bind}, not at {wanted}: it would take that of what serves away",
                       f"{it.START}=… {wanted.with_name('%i.sock')}")  # fmt: skip
