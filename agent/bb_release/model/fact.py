"""One line of `check`: what was seen of this host, how bad it is, and what to do about it. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    """Only a problem stops a deploy, or makes sure that it does not end well."""

    OK = "ok"
    WARN = "warn"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Fact:
    """`do` is the exact command or line for a person; "" where nothing is to be done."""

    text: str
    level: Level = Level.OK
    do: str = ""


def warn(text: str, do: str = "") -> Fact:
    return Fact(text, Level.WARN, do)


def problem(text: str, do: str = "") -> Fact:
    return Fact(text, Level.PROBLEM, do)
