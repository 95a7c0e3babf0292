"""One TOML file is one app: finds it, reads it, checks it, and makes the frozen App of it.

Cheap to import: pydantic comes with `schema`, and only when a file is read.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_release import checked, config_rules
from bb_release.errors import ConfigurationInvalid
from bb_release.model.layout import Layout

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from bb_release.model.app import App

FOLDER = Path("/etc/bb-release")
VARIABLE = "BB_RELEASE_CONFIG"
LARGEST = 1_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NAME_WISH = "lower-case letters, digits, - and _, at most 63, the first a letter or digit"
_BARE = re.compile(r"[A-Za-z0-9_-]+")

_found: dict[str, tuple[str, dict[str, Any]]] = {}  # by root: what this process has looked at

_PLAIN = {
    "missing": "is required",
    "string_type": "should be a string",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "list_type": "should be a list",
    "dict_type": "should be a table",
    "model_type": "should be a table",
    "model_attributes_type": "should be a table",
    "too_short": "should not be empty",
}


def find(name: str | None, file: Path | None, folder: Path = FOLDER) -> Path:
    """The file of the app that is meant: --config, else BB_RELEASE_CONFIG, else the folder's.

    A name that was given always wins over the variable, so that `-a shop-staging` never means another app.
    Raises ConfigurationInvalid when none, or more than one, could be meant.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigurationInvalid(
            "The name of the app is not valid.", remedy="Choose a configured app with -a APP.", details=_NAME_WISH
        )
    if file is not None:
        if name is not None and file.stem != name:
            raise ConfigurationInvalid(
                f"--config {file} is the app {file.stem}, and -a says {name}.", remedy="Give only one of the two."
            )
        return file
    variable = os.environ.get(VARIABLE, "")
    if variable and name in (None, Path(variable).stem):
        return Path(variable)
    there = names(folder)
    if name is not None and name in there:
        return folder / f"{name}.toml"
    if not there:
        remedy = "Make one with `bb-release init`, or name a file elsewhere: --config FILE."
        raise ConfigurationInvalid(f"No app is configured in {folder}.", remedy=remedy)
    listed = "\n".join(there)
    if name is not None:
        from difflib import get_close_matches

        near = get_close_matches(name, there, 1)
        raise ConfigurationInvalid(
            f"No app {name} is configured in {folder}.",
            remedy=f"Did you mean -a {near[0]}?" if near else "Choose one with -a APP, or run `bb-release init`.",
            details=listed,
        )
    if len(there) > 1:
        several = f"Several apps are configured in {folder}: {', '.join(there)}."
        raise ConfigurationInvalid(several, remedy="Choose one with -a APP.", details=listed)
    return folder / f"{there[0]}.toml"


def names(folder: Path = FOLDER) -> list[str]:
    """The apps that have a file in the folder, sorted. Raises ConfigurationInvalid when it is not readable."""
    try:
        entries = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationInvalid(
            f"{folder} cannot be listed: {error.strerror}.", remedy=f"Look at it: ls -ld {shlex.quote(str(folder))}"
        ) from None
    # a name that is not valid is listed too: `load` says what is wrong with it
    return sorted(entry[:-5] for entry in entries if entry.endswith(".toml") and not entry.startswith("."))


def load(path: Path) -> App:
    """The checked App. Raises ConfigurationInvalid with all mistakes at once, no value among them."""
    mistakes = []
    if not _NAME.fullmatch(path.stem):
        mistakes.append(f"the file's name, which is the app's, should be {_NAME_WISH}")
    content = _text(path)
    raw = _parsed(path, content)
    key, root = checked.key(path.name, content), raw.get("root")
    if not mistakes and isinstance(root, str) and root.startswith("/"):
        known = checked.recall(Layout(Path(root)).configuration, key)
        if known is not None:
            return checked.build(known, path.stem)

    from pydantic import ValidationError

    from bb_release import schema as room

    read = None
    try:
        read = room.AppFile.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        mistakes += [f"{_where(raw, one['loc'])}: {_what(one)}" for one in found]
    mistakes += [f"{_where(raw, keys)}: {what}" for keys, what in config_rules.across(raw, path.stem)]
    if mistakes or read is None:
        raise _invalid(path, mistakes)
    says = room.says(read)
    _found[says["root"]] = (key, says)
    return checked.build(says, path.stem)


def remember(root: Path) -> None:
    """Note what `load` has looked at for the app of this root, so that it need not look again."""
    key, says = _found.pop(str(root), ("", {}))
    if says:
        checked.note(Layout(root).configuration, key, says)


def schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    from bb_release import schema as room

    made = room.AppFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _invalid(path: Path, mistakes: Sequence[str]) -> ConfigurationInvalid:
    """The one error of all mistakes, each told once."""
    lines = list(dict.fromkeys(mistakes))
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return ConfigurationInvalid(f"{path} has {count}.", remedy=f"Correct {path}.", details="\n".join(lines))


def _text(path: Path) -> bytes:
    """What the file holds. Raises ConfigurationInvalid when unreadable or when others could have written it."""
    quoted = shlex.quote(str(path))
    try:
        # O_NONBLOCK: a named pipe must not hold us; we ask about what was opened, not about its name
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise ConfigurationInvalid(f"{path} is not a file.", remedy="Name a TOML file.")
            writers = "everyone on this host" if facts.st_mode & stat.S_IWOTH else _group_that_writes(facts)
            if writers:
                raise ConfigurationInvalid(
                    f"{path} can be written by {writers}.", remedy=f"Read it through, then: chmod go-w {quoted}"
                )
            if facts.st_uid not in (0, os.geteuid()):
                raise ConfigurationInvalid(
                    f"{path} belongs to another user.", remedy=f"Read it through, then: chown root {quoted}"
                )
            content = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise ConfigurationInvalid(f"{path} does not exist.", remedy="Make one with `bb-release init`.") from None
    except OSError as error:
        raise ConfigurationInvalid(
            f"{path} cannot be read: {error.strerror}.", remedy=f"Look at it: ls -l {quoted}"
        ) from None
    if len(content) > LARGEST:
        raise ConfigurationInvalid(f"{path} is larger than 1 MB.", remedy="Name the TOML file of an app.")
    return content


def _group_that_writes(facts: os.stat_result) -> str:
    """The group that may write the file, in words; "" for root's, and for a user's own one, of the same name."""
    if not facts.st_mode & stat.S_IWGRP or facts.st_gid == 0:
        return ""
    try:
        group = grp.getgrgid(facts.st_gid).gr_name
        is_own = group == pwd.getpwuid(facts.st_uid).pw_name
    except KeyError:
        group, is_own = f"#{facts.st_gid}", False
    return "" if is_own else f"the group {group}"


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    """The file as TOML. Raises ConfigurationInvalid with the line; the line's text may be a secret."""
    import tomllib

    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _invalid(path, [f"line {line}: is not UTF-8"]) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
        if said:
            mistake = f"line {said[2]}, column {said[3]}: {said[1]}"
        else:
            mistake = f"line {len(text.splitlines()) or 1}: {str(error).removesuffix(' (at end of document)')}"
    except RecursionError:
        mistake = "nests too deeply"
    except ValueError:
        mistake = "holds a number or date that cannot be read"
    raise _invalid(path, [mistake])


def _where(raw: object, keys: Sequence[str | int]) -> str:
    """The place as one would write it: `units[1].kind`. Ends where the file has a short form."""
    place = ""
    for key in keys:
        if key == "[key]" or (place and raw is not None and not isinstance(raw, (dict, list))):
            break
        if isinstance(key, int):
            place += f"[{key}]"
            raw = raw[key] if isinstance(raw, list) and key < len(raw) else None
        else:
            place += ("." if place else "") + (key if _BARE.fullmatch(key) else json.dumps(key))
            raw = raw.get(key) if isinstance(raw, dict) else None
    return place


def _what(error: ErrorDetails) -> str:
    """What should be there, in our words, without the value that is."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        from difflib import get_close_matches

        *above, key = error["loc"]
        near = get_close_matches(str(key), list(_known(above)), 1)
        return "unknown key" + (f", did you mean {near[0]}?" if near else "")
    if kind == "literal_error":
        return "should be " + str(context["expected"]).replace("'", '"')
    if kind == "greater_than_equal":
        return f"should be at least {context['ge']:g}"
    if kind == "less_than_equal":
        return f"should be at most {context['le']:g}"
    return _PLAIN.get(kind) or f"is not valid ({kind})"


def _known(above: Sequence[str | int]) -> Iterator[str]:
    """The keys that the table at this place may have."""
    from bb_release import schema as room

    tables: dict[str | int, Any] = {"units": room.UnitTable, "health": room.HealthTable}
    tables |= {"run": room.RunTable, "timeouts": room.TimeoutsTable}
    yield from (tables[above[0]] if above else room.AppFile).model_fields
