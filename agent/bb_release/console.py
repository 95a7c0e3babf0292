"""How things look to a person. Everything can be read without colour; data to stdout, errors to stderr."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TextIO

from bb_release.errors import Explained
from bb_release.tools.process import visible

_spoken = ("bb-release", re.compile(r"(?!)"))  # how the app is named, and where: nowhere


def speak(options: Sequence[str], commands: Iterable[str]) -> None:
    """From now on, a command of ours that is shown to a person has these options: else it would mean no app."""
    global _spoken  # noqa: PLW0603  one process answers one person
    verbs = "|".join(map(re.escape, commands))
    _spoken = (shlex.join(["bb-release", *options]), re.compile(rf"(?<![\w./-])bb-release (?=(?:{verbs})\b)"))


def spoken(text: str) -> str:
    """The text with its commands as they have to be typed for this app. One that names its app is left as it is."""
    words, pattern = _spoken
    named = re.compile(r" (?:--config|-a|--app)[ =]")
    return "\n".join(
        line if named.search(line) else pattern.sub(lambda _: f"{words} ", line) for line in text.split("\n")
    )


def _print(text: str = "", *, file: TextIO | None = None, flush: bool = False) -> None:
    print(visible(text), file=file, flush=flush)


def print_json(value: object) -> None:
    _print(json.dumps(value, indent=2, default=str))


def print_line(text: str) -> None:
    _print(text, flush=True)


def bold_red(text: str) -> str:
    """Colour for a terminal that wants it (NO_COLOR is honoured)."""
    wanted = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[1;31m{text}\033[0m" if wanted else text


def print_error(error: Explained) -> None:
    """The error block: what failed, in what state the site is, what to do, where the log is."""
    lines = [f"  {error.message}"]
    lines += [f"    {line}" for line in error.details.splitlines()]
    for name, text in (("site", error.site), ("remedy", spoken(error.remedy)), ("log", spoken(error.log))):
        if text:
            first, *rest = text.splitlines()
            lines += [f"  {name + ':':<8} {first}", *(f"    {line}" for line in rest)]
    try:
        print(bold_red(f"error: {error.code}"), file=sys.stderr)
        _print("\n".join(lines), file=sys.stderr)
    except OSError:  # the terminal is gone; the log has it all
        return


def error_facts(error: Explained) -> dict[str, Any]:
    return {
        "error": error.code, "message": error.message, "details": error.details, "site": error.site,
        "remedy": spoken(error.remedy), "log": spoken(error.log), "exit_code": error.exit_code,
    }  # fmt: skip


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what is in them."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def local_time(text: str | None) -> str:
    """A moment in the local zone and in UTC; once, where they are the same."""
    if not text:
        return "-"
    try:
        moment = datetime.fromisoformat(text)
        here = moment.astimezone()
    except (ValueError, OverflowError):  # somebody else's line in the journal
        return ascii(text)
    utc = f" ({moment:%H:%M:%S} UTC)" if here.utcoffset() else ""
    return f"{here:%Y-%m-%d %H:%M:%S %Z}{utc}"


def print_status(facts: dict[str, Any]) -> None:
    _print(f"{facts['app']} in {facts['root']}")
    if facts["release"] is None:
        _print(f"  live:     nothing; {facts['last']} was live last" if facts["last"] else "  nothing is live yet")
    else:
        _print(f"  live:     {facts['release']} ({facts['revision'][:7]}, {facts['ref']}), {facts['state']}")
        _print(f"  since:    {local_time(facts['since'])}")
        _print(f"  health:   {facts['health']}")
        for unit in facts["units"]:
            pid = f", process {unit['pid']}" if unit["pid"] else ""
            old = spoken(", started before its environment changed: bb-release restart") if unit["outdated"] else ""
            proof = f", proven by {unit['proof']}" if unit["proof"] else ", not proven" if unit["unproven"] else ""
            other = f", runs from {', '.join(unit['other_releases'])}" if unit["other_releases"] else ""
            _print(f"  unit:     {unit['name']}: {unit['summary']}{pid}{proof}{other}{old}")
    for unit in facts["beside"]:
        led = "and it still serves" if unit["serves"] else "and nothing leads to it"
        _print(f"  beside:   {unit['name']}: {unit['summary']}, process {unit['pid']}, {led}")
    for each in facts["database"]:
        _print(f"  database: ahead by {_few(each['migrations'])} (release {each['release']})")
    if facts["hold"]:
        held = facts["hold"]
        _print(f"  hold:     by {held['who']} since {held['since']}: {held['reason']} ({spoken('bb-release unhold')})")
    if facts["run"]:
        run = facts["run"]
        who = f"{run.get('action', 'a run')} by {run.get('who', 'someone')} since {run.get('since', '?')}"
        killed = "a program that a killed run left still writes; the run was: " if run["killed"] else ""
        _print(f"  running:  {killed}{who}")
    for each in facts["to_do"]:
        _print(f"  remedy:   {each['do']}   # {each['why']}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def print_releases(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        _print("no release yet: bb-release deploy")
        return
    table = []
    for row in rows:
        marks = " ".join(["live"] * row["live"] + ["pinned"] * row["pinned"])
        migrations = ", ".join(row["migrations"]) or "-"
        if len(row["migrations"]) > 2:
            migrations = f"{len(row['migrations'])} applied"
        table.append([row["name"], row["revision"][:7], row["ref"], row["state"], marks, migrations])
    print_table(["release", "revision", "ref", "state", "", "migrations"], table)


def print_history(lines: Sequence[dict[str, Any]], there: int) -> None:
    """The lines, and of how many."""
    for line in lines:
        rest = "  ".join(f"{k}={v}" for k, v in line.items() if k not in ("at", "event") and v != "")
        _print(f"{local_time(str(line.get('at', '')) or None)}  {line.get('event')}  {rest}")
    if len(lines) < there:
        _print(f"the last {len(lines)} of {there} lines; --last N shows more")


def print_log_line(raw: str) -> None:
    """A line of a run's log as a person wants it: the programs' lines, the steps, the failure."""
    try:
        line = json.loads(raw)
        event, at = line.pop("event"), line.pop("timestamp", "")[11:19]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return  # torn by a crash
    text = line.get("line") or line.get("text") or "  ".join(f"{k}={v}" for k, v in line.items())
    _print(f"{at} {text}" if event in ("output", "said") else f"{at} {event} {text}", flush=True)


def print_begun(file: str, found: Sequence[str], missing: Sequence[str], commands: Sequence[str]) -> None:
    """What `init` found, what a person has to know, and what to type next."""
    _print(f"wrote {file}\n\nfound:")
    for line in found:
        _print(f"  {line}")
    if missing:
        _print("\nnot found, or for you to decide:")
        for line in missing:
            _print(f"  {line}")
    _print("\nnext, after a look at the file:")
    for number, line in enumerate(commands, 1):
        _print(f"  {number}. {line}")


def print_check(groups: dict[str, list[tuple[str, str, str]]], todo: Sequence[str], *, stopped: bool) -> None:
    """A line for each fact, then what to do about them."""
    for group, rows in groups.items():
        _print(group)
        for level, text, _ in rows:
            first, *rest = text.splitlines() or [""]
            _print(f"  {level:<8} {first}")
            for line in rest:
                _print(f"  {'':<8}   {line}")
    if todo:
        _print("\nto do:")
        for number, line in enumerate(todo, 1):
            _print(f"  {number}. {line}")
    _print(f"\n{'something stops a deploy' if stopped else 'nothing stops a deploy'}")


def print_plan(facts: dict[str, Any]) -> None:
    """What a deploy would do, from the first thing that one wants to know to the last."""
    live = facts["from"]
    came = f"{live['release']} ({live['revision'][:7]}, {live['state']})" if live else "nothing"
    _print(f"{facts['app']}: from {came} to {facts['ref']} ({facts['revision'][:7]})")
    if facts["nothing_to_do"]:
        _print("  nothing to do: it is live and verified")
        return
    _print(f"  a new release: {facts['why']}")
    if not facts["compared"]:
        _print("  compared:     with nothing, the live revision is not in the repository any more")
    lists = (
        ("commits", facts["commits"][:10], facts["commit_count"]),
        ("left behind", facts["commits_left_behind"][:10], len(facts["commits_left_behind"])),
        ("requirements", facts["requirements"] if live else [], len(facts["requirements"])),
        ("migrations", facts["migrations"] if live else [], len(facts["migrations"])),
        ("removed", facts["migrations_removed"], len(facts["migrations_removed"])),
        ("settings", facts["settings"] if live else [], len(facts["settings"])),
    )
    for name, lines, count in lists:
        if not count:
            continue
        _print(f"  {name + ':':<13} {count}")
        for line in lines:
            _print(f"    {line}")
    _print(f"  files:        {facts['files_changed']} differ, {facts['static']} of them static")
    _print(f"  restarts:     {', '.join(facts['restarts']) or 'nothing'}")
    if facts["reloads"]:
        _print(f"  reloads:      {', '.join(facts['reloads'])}")
    for pruned in facts["prunes"]:
        _print(f"  prunes:       {pruned['release']} ({pruned['reason']})")
    free, need = facts["free_bytes"] // 1_000_000, facts["need_bytes"] // 1_000_000
    _print(f"  disk:         {need} MB needed, {free} MB free")
    if facts["hold"]:
        _print(f"  hold:         by {facts['hold']['who']}: {facts['hold']['reason']} ({spoken('bb-release unhold')})")
    for warning in facts["warnings"]:
        _print(f"  warning:      {warning}")
    for stop in facts["stops"]:
        _print(f"  stops it:     {stop}")
    if facts["stops"]:
        _print(f"  what to do:   {spoken('bb-release check')}")
