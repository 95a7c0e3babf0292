"""Which indexes an installer asks, as variables: an address may hold a password, and everybody sees command lines."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from bb_release.errors import RequirementsNotInstalled
from bb_release.tools.requirements.pins import THEN_DEPLOY, Index, is_pypi, same_index

SYSTEM_PIP_CONFIG = Path("/etc/pip.conf")
# what an operator may have written into build_env_file for the one installer counts for the other too
_DEFAULT = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
_EXTRA = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")
NAMES = frozenset({*_DEFAULT, *_EXTRA})


def choose(
    installer: str, env: Mapping[str, str], index_url: str, locked: Sequence[Index] = ()
) -> tuple[dict[str, str], list[str]]:
    """The variables and the words that tell an installer of its indexes; of `env`, NAMES no longer count.

    `index_url` "" means the index of `env`, else of pip's configuration, else of the lock when it has only its own.
    Those of the lock get the credentials that `env` has for their names, as uv and Poetry read them.
    Raises RequirementsNotInstalled when pip's configuration cannot be read.
    """
    conf = _pip_settings(env) if installer == "pip" or not index_url else {}
    default = index_url or next((env[name] for name in _DEFAULT if env.get(name)), "") or conf.get("index-url", "")
    extra = [word for name in _EXTRA for word in env.get(name, "").split()] or conf.get("extra-index-url", "").split()
    wanted = list(locked)
    if not default and wanted and not any(is_pypi(one.url) for one in wanted):
        default = with_credentials(wanted.pop(0), env)
    known = {same_index(_address(word)) for word in [default, *extra] if word}
    extra += [with_credentials(one, env) for one in wanted if not is_pypi(one.url) and same_index(one.url) not in known]
    words: list[str] = []
    if installer == "pip":
        found = {"PIP_INDEX_URL": _address(default), "PIP_EXTRA_INDEX_URL": " ".join(map(_address, extra))}
    else:
        found = {"UV_DEFAULT_INDEX": default, "UV_INDEX": " ".join(extra)}
        found["UV_FIND_LINKS"] = ",".join(conf.get("find-links", "").split())
        if conf.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
            words = ["--no-index"]
    return {key: value for key, value in found.items() if value}, words


def with_credentials(index: Index, env: Mapping[str, str]) -> str:
    """The address with user and password from the variables of its name: UV_INDEX_<NAME>_… or Poetry's."""
    name = re.sub(r"[^A-Z0-9]", "_", index.name.upper())
    parts = urlsplit(index.url)
    for prefix in (f"UV_INDEX_{name}_", f"POETRY_HTTP_BASIC_{name}_"):
        user, password = env.get(f"{prefix}USERNAME", ""), env.get(f"{prefix}PASSWORD", "")
        if name and (user or password) and not parts.username:
            who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
            return urlunsplit(parts._replace(netloc=f"{who}@{parts.netloc}"))
    return index.url


def secrets(values: Sequence[str]) -> Iterator[str]:
    """User names (tokens are sent as such) and passwords in the addresses among `values`."""
    for word in (word for value in values for word in re.split(r"[\s,]+", value)):
        try:
            parts = urlsplit(_address(word))
        except ValueError:
            continue  # not an address
        yield from (part for part in (parts.username, parts.password) if part)


def _address(word: str) -> str:
    """uv's "name=https://…" without the name."""
    return re.sub(r"^[\w.-]+=(?=\w+:)", "", word)


def _pip_settings(env: Mapping[str, str]) -> dict[str, str]:
    """What pip's own configuration files say, in its order: later files win, and [install] over [global]."""
    home = Path(env.get("HOME", "/"))
    config_home = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in (SYSTEM_PIP_CONFIG, home / ".pip" / "pip.conf", config_home / "pip" / "pip.conf"):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeError):
            # without the cause: the parser's message quotes lines, which may hold a password
            raise RequirementsNotInstalled(
                f"pip's configuration file {path} cannot be read",
                remedy=f"correct that file, or set index_url, {THEN_DEPLOY}",
            ) from None
        for section, values in found.items():
            if parser.has_section(section):
                values.update({name.replace("_", "-"): value for name, value in parser.items(section)})
    return {**found["global"], **found["install"]}
