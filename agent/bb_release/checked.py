"""What a configuration file was found to say: made into an App, and noted, so that the same bytes need no second look.

Loading pydantic and building its checks is most of what "nothing changed" would cost under a timer.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bb_release import __version__
from bb_release.model import app as target
from bb_release.model import durable

LARGEST = 4_000_000
_CHECKS = ("checked.py", "config.py", "config_rules.py", "schema.py")
_PATHS = ("root", "cache", "env_file", "build_env_file", "webhook_file", "deploy_key", "known_hosts", "git_credentials")


def key(name: str, content: bytes) -> str:
    """Of a file's name and bytes, and of the code that checks them: another one where any of them is another."""
    looks = [Path(__file__).with_name(each).stat() for each in _CHECKS]
    decided_by = [__version__, name, [(look.st_mtime_ns, look.st_size) for look in looks]]
    return hashlib.sha256(json.dumps(decided_by).encode() + b"\0" + content).hexdigest()


def recall(file: Path, wanted: str) -> dict[str, Any] | None:
    """What was noted in this file under this key; None when there is nothing that could be believed."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o022 or facts.st_uid not in (0, os.geteuid()):
                return None
            noted = json.loads(stream.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(noted, dict) or noted.get("key") != wanted or not isinstance(noted.get("says"), dict):
        return None
    says: dict[str, Any] = noted["says"]
    return says if noted.get("sum") == _sum(says) else None


def note(file: Path, found: str, says: Mapping[str, Any]) -> None:
    """Keep what a file says; without room or right to, the next run looks again."""
    with suppress(OSError):
        durable.put_note(file, json.dumps({"key": found, "sum": _sum(says), "says": says}).encode())


def build(says: Mapping[str, Any], name: str) -> target.App:
    """The frozen App. Only what the file says is passed on: the dataclasses have the defaults."""
    facts = _frozen(says)
    if says.get("health") is not None:
        facts["health"] = target.Health(**_frozen(says["health"]))
    facts["units"] = tuple(target.Unit(**_frozen(unit)) for unit in says.get("units", ()))
    facts["run"] = tuple(target.Run(**_frozen(run)) for run in says.get("run", ()))
    facts["timeouts"] = target.Timeouts(**_frozen(says.get("timeouts", {})))
    for each in _PATHS:
        if facts.get(each) is not None:
            facts[each] = Path(facts[each])
    if "signers" in facts:
        facts["signers"] = tuple(Path(each) for each in facts["signers"])
    return target.App(name=name, **facts)


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    """Lists and tables made immutable."""
    facts: dict[str, Any] = {}
    for each, value in table.items():
        # sorted: another order in the file is not another shape of the release
        plain = sorted(value.items()) if isinstance(value, dict) else value
        facts[each] = tuple(plain) if isinstance(plain, list) else plain
    return facts


def _sum(says: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()
