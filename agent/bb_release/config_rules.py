"""What one key of the configuration says about another, asked of the file as it was parsed; and what a secret is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

SECRET = "a secret in the TOML is an error: secrets come from files of mode 0600"  # noqa: S105  a sentence, no secret
LOOKS_SECRET = re.compile(r"SECRET|PASSWORD|TOKEN|PRIVATE|KEY\Z", re.IGNORECASE)
URL_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s]+@")
LOCAL = re.compile(r"(file://)?/[^\x00-\x1f]+")
_BETWEEN = "-_.@:"  # the words in the name of a unit, or of a program of Supervisor
_LONGEST_SOCKET = 95  # unix(7): 107 bytes, and the instances' own names beside it may be longer


def role(unit: str, app: str) -> str:
    """What a unit is by the words of its name, those of the app's own name aside: `beat`, `celery` (a worker) or `web`.

    celeryd and celerybeat are Celery's own names for its daemons.
    """
    stem = unit.removesuffix(".service")
    own = stem.removeprefix(app)
    rest = own if not own or own[0] in _BETWEEN else stem  # shop-beat is shop's beat, shopping-beat is not
    words = {word.rstrip("0123456789") for word in re.split(f"[{_BETWEEN}]", rest)}
    if words & {"beat", "celerybeat"}:
        return "beat"
    return "celery" if words & {"celery", "celeryd", "worker", "workers"} else "web"


def across(raw: Mapping[str, Any], app: str) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What one key says about another, asked of the raw file: so it is told beside the rest. `app` is its name."""
    repository = raw.get("repository")
    if isinstance(repository, str) and LOCAL.fullmatch(repository) and raw.get("allow_file_url") is not True:
        yield ("repository",), "a repository on this machine needs allow_file_url = true"
    public = raw.get("public")
    known = public if isinstance(public, list) else []
    environment = raw.get("environment")
    for name, value in environment.items() if isinstance(environment, dict) else ():
        secret = LOOKS_SECRET.search(name) or (isinstance(value, str) and URL_PASSWORD.search(value))
        if secret and name not in known:
            yield ("environment", name), f"{SECRET}: put it into env_file, or its name into public"
    if bool(raw.get("verify")) != bool(raw.get("signers")):
        yield ("verify",), "needs signers, and they need it: what has to be signed, and a file of the keys that count"
    health = raw.get("health")
    headers = health.get("headers") if isinstance(health, dict) else None
    for name in headers if isinstance(headers, dict) else ():
        if re.fullmatch("authorization|proxy-authorization|cookie", name, re.IGNORECASE) or LOOKS_SECRET.search(name):
            yield ("health", "headers", name), "a secret in the TOML is an error: let the health view need none"
    units = raw["units"] if isinstance(raw.get("units"), list) else []
    if isinstance(environment, str) and environment.startswith("unit:"):
        tables = [unit if isinstance(unit, dict) else {"name": unit} for unit in units]
        if environment[5:] not in [unit.get("name") for unit in tables if unit.get("kind", "systemd") == "systemd"]:
            yield ("environment",), "should name one of units, as it is written there, that systemd runs"
        if raw.get("env_file"):
            yield ("env_file",), "does not go with the environment of a unit, which has all of it: take one of them out"
    led = [
        index
        for index, unit in enumerate(units)
        if isinstance(unit, dict) and unit.get("handover") == "blue-green" and unit.get("socket")
    ]
    for index in led[1:]:
        yield (
            ("units", index, "socket"),
            'only one unit with handover = "blue-green" can have one: one link leads visitors',
        )
    for index, unit in enumerate(units):
        kind = unit.get("kind") if isinstance(unit, dict) else None
        change = "reload" if isinstance(unit, dict) and unit.get("runs_release") is False else "restart"
        for key, what in _handover(unit, app) if isinstance(unit, dict) else ():
            yield ("units", index, key), what
        if isinstance(unit, str) and unit.endswith(("@", "@.service")):
            yield ("units", index), 'is a template, of which handover = "blue-green" starts instances'
        needed = {"supervisor": ("socket",), "command": (change, "status")}
        for key in needed.get(kind, ()) if isinstance(kind, str) else ():
            if unit.get(key) in (None, "", []):
                yield ("units", index, key), f'is required when kind is "{kind}"'


def _handover(unit: Mapping[str, Any], app: str) -> Iterator[tuple[str, str]]:
    """What does not go with the way in which a unit is handed over."""
    name, way, socket = str(unit.get("name", "")), unit.get("handover", ""), unit.get("socket", "")
    template = name.endswith(("@", "@.service"))
    group = way == "socket" and unit.get("kind") == "supervisor" and name.endswith(":*")
    if way in ("socket", "blue-green") and unit.get("kind", "systemd") != "systemd" and not group:
        yield "handover", f'"{way}" is for units of systemd' + (", and groups (shop:*)" if way == "socket" else " only")
    if template and way != "blue-green":
        yield "name", 'is a template, of which handover = "blue-green" starts instances'
    if way != "blue-green":
        return
    if not template:
        yield "name", "should be a template such as shop@.service: it is started as shop@blue and shop@green"
    if unit.get("runs_release") is False:
        yield "handover", 'a unit that does not run the release is reloaded, not "blue-green"'
    if role(name, app) == "beat":
        yield "handover", "a beat must never run twice, and each task would be sent twice meanwhile"
    if isinstance(socket, str) and socket and (not socket.startswith("/") or len(socket) > _LONGEST_SOCKET):
        yield "socket", f"should be an absolute path of at most {_LONGEST_SOCKET} characters"
    elif isinstance(socket, str) and socket.rpartition("/")[2] in ("blue.sock", "green.sock"):
        yield "socket", "should be the link beside blue.sock and green.sock, such as /run/shop/active.sock"
