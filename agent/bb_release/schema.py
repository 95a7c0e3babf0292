"""The file's shape for pydantic, and the checks at the door. Slow to import: only `config` does, when needed.

Every check says what is wrong and never repeats a value, since a value may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, WrapValidator

from bb_release.config_rules import LOCAL, SECRET, URL_PASSWORD
from bb_release.model import app as target

_TOKEN_AS_USER = re.compile(r"://(gh[opsur]_|github_pat_|glpat-|[A-Za-z0-9]{32,}@)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PATH = r"(?![-:])(?!//)[^\s\x00-\x1f?#]+"
_HOST = r"[A-Za-z0-9][A-Za-z0-9.-]*"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.+%-]*"
_REMOTE = re.compile(rf"((https|ssh)://({_USER}@)?{_HOST}(:\d+)?/{_PATH}|({_USER}@)?{_HOST}:{_PATH})")
_HEADER = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_MODULE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"


def _like(pattern: str, wish: str) -> AfterValidator:
    """A check that the whole text matches; raises ValueError with `wish`."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(wish)
        return text

    return AfterValidator(check)


def _absolute(text: str) -> str:
    """An absolute path, or ValueError."""
    if not text.startswith("/") or _CONTROL.search(text) or ".." in text.split("/"):
        raise ValueError('should be an absolute path without ".."')
    return text


def _root(text: str) -> str:
    """An absolute path below "/" without repeated slashes, or ValueError."""
    parts = [part for part in _absolute(text).split("/") if part not in ("", ".")]
    if not parts:
        raise ValueError('should not be "/": everything below it belongs to the app')
    return "/" + "/".join(parts)


def _relative(text: str) -> str:
    """A path inside the tree, or ValueError. A leading dash would be an option to what gets it."""
    if not text or text.startswith(("/", "-")) or _CONTROL.search(text) or ".." in text.split("/"):
        raise ValueError('should be a relative path without ".." and without a leading dash')
    return text


def _inside(text: str) -> str:
    """A path in the tree that is not the tree itself, or ValueError."""
    if not any(part not in ("", ".") for part in _relative(text).split("/")):
        raise ValueError("should name something inside the tree, not the tree itself")
    return text


def _repository(text: str) -> str:
    """Where git fetches from, or ValueError. Whether a local one is allowed is asked in `config`."""
    # `user:password@host:path` is to git the path `password@host:path` on the host `user`: nobody means that
    if URL_PASSWORD.search(text) or re.match(r"[^/@]+:[^/@]+@", text):
        raise ValueError(f"holds a password; {SECRET} (deploy_key or git_credentials)")
    if text.startswith("https:") and _TOKEN_AS_USER.search(text):
        raise ValueError(f"holds a token; {SECRET} (deploy_key or git_credentials)")
    if not LOCAL.fullmatch(text) and (not _REMOTE.fullmatch(text) or text.startswith(("file:", "http:"))):
        raise ValueError("should be https://host/path, ssh://user@host/path or user@host:path")
    return text


def _web(text: str) -> str:
    """An http or https URL without a password, or ValueError."""
    if URL_PASSWORD.search(text):
        raise ValueError(f"holds a password; {SECRET}")
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or re.search(r"\s", text) or _CONTROL.search(text):
        raise ValueError("should be an http:// or https:// URL")
    return text


def _health_url(text: str) -> str:
    """A URL to ask, perhaps over a unix socket, or ValueError."""
    if text.startswith("http+unix:"):
        if not re.fullmatch(r"http\+unix:///[^\s:\x00-\x1f]+:/[^\s\x00-\x1f]*", text):
            raise ValueError("should be http+unix:///path/of.sock:/path/of/url/")
        return text
    try:
        return _web(text)
    except ValueError as error:
        raise ValueError(str(error).replace("https:// URL", "https:// or http+unix:// URL")) from None


def _socket(text: str) -> str:
    """supervisord's address, or ValueError."""
    if text.startswith("http://"):
        return _web(text)
    if text and (not text.startswith("/") or _CONTROL.search(text)):
        raise ValueError("should be the absolute path of a unix socket, or http://host:port")
    return text


class _OrString:
    """Accepts a string in place of a table or a list, and says so in the JSON Schema."""

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


def _short_for(key: str, wish: str) -> BeforeValidator:
    """A string stands for a table with only `key`; raises ValueError with `wish` for anything else."""

    def expand(value: object) -> object:
        if isinstance(value, (str, dict)):
            return {key: value} if isinstance(value, str) else value
        raise ValueError(wish)  # not TypeError: pydantic collects only these

    return BeforeValidator(expand)


def _or_unit(value: object, table: Callable[[object], object]) -> object:
    """ "unit:shop.service", that unit's own, instead of a table; or ValueError."""
    if isinstance(value, str) and not value.startswith("unit:"):
        raise ValueError('should be a table, or like "unit:shop.service"')
    return value if isinstance(value, str) else table(value)


def _factory(default: tuple[str, ...]) -> Callable[[], list[str]]:
    """The dataclass's default as pydantic wants it; so no default is written twice."""
    return lambda: list(default)


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Absolute = Annotated[str, AfterValidator(_absolute)]
Relative = Annotated[str, AfterValidator(_relative)]
Inside = Annotated[str, AfterValidator(_inside)]
Argument = Annotated[str, _like(r"[^\x00]*", "should not contain a NUL character")]
Command = list[Argument]
_LISTED = BeforeValidator(lambda text: [text] if isinstance(text, str) else text)  # one string is a list of one
EnvironmentName = Annotated[str, _like(r"[A-Za-z_][A-Za-z0-9_]*", "should be a name like DJANGO_DEBUG")]
HeaderName = Annotated[str, _like(_HEADER, "should be the name of a header")]
HeaderValue = Annotated[str, _like(r"[^\x00-\x08\x0a-\x1f\x7f]*", "should not contain newlines or control characters")]
UnitName = Annotated[str, _like(r"[A-Za-z0-9:_.\\@+][A-Za-z0-9:_.\\@+-]{0,254}(:\*)?", "should be the name of a unit")]
Branch = Annotated[str, _like(r"(?!-)[A-Za-z0-9._/+@-]{1,200}", "should be the name of a branch")]
GroupName = Annotated[str, _like(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "should be the name of a group or extra")]
Python = Annotated[str, _like(r"|\d+\.\d+(\.\d+)?|/[^\x00-\x1f]+", 'should be like "3.12", or a path')]
Application = Annotated[str, _like(f"|{_MODULE}:{_MODULE}", 'should be like "shop.wsgi:application"')]
Names = Annotated[str, _like(rf"|body|header:{_HEADER}", 'should be "header:NAME" or "body"')]


class _Table(BaseModel):
    # strict: "20" is no number; a file that needs guessing is a file with a mistake
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class UnitTable(_Table):
    """One of `units`."""

    name: UnitName
    kind: Literal["systemd", "supervisor", "command"] = "systemd"
    runs_release: bool = target.Unit.runs_release
    handover: Literal["", "socket", "restart", "blue-green"] = ""
    socket: Annotated[str, AfterValidator(_socket)] = target.Unit.socket
    start: Command = Field(default_factory=_factory(target.Unit.start))
    restart: Command = Field(default_factory=_factory(target.Unit.restart))
    reload: Command = Field(default_factory=_factory(target.Unit.reload))
    status: Command = Field(default_factory=_factory(target.Unit.status))
    user: bool = target.Unit.user
    stop_seconds: Seconds = target.Unit.stop_seconds
    settle_seconds: Seconds = target.Unit.settle_seconds
    celery: Annotated[str, _like(f"|{_MODULE}(:{_MODULE})?", 'should be like "shop"')] = target.Unit.celery


class HealthTable(_Table):
    """`health`."""

    url: Annotated[str, AfterValidator(_health_url)]
    expect: Annotated[int, Field(ge=100, le=599)] = target.Health.expect
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    body: str = target.Health.body
    release: Names = target.Health.release
    timeout_seconds: Seconds = target.Health.timeout_seconds
    interval_seconds: Annotated[float, Field(ge=0.05, allow_inf_nan=False)] = target.Health.interval_seconds


class RunTable(_Table):
    """One of `run`."""

    at: Literal[
        "before-requirements", "before-collect-static", "after-collect-static", "before-migrate",
        "after-migrate", "after-verify", "after-failure", "after-rollback",
    ]  # fmt: skip
    command: Annotated[Command, Field(min_length=1)]
    folder: Relative = target.Run.folder
    timeout_seconds: Seconds = target.Run.timeout_seconds
    first_only: bool = target.Run.first_only


class TimeoutsTable(_Table):
    """`timeouts`."""

    fetch: Seconds = target.Timeouts.fetch
    checkout: Seconds = target.Timeouts.checkout
    environment: Seconds = target.Timeouts.environment
    requirements: Seconds = target.Timeouts.requirements
    check: Seconds = target.Timeouts.check
    collect_static: Seconds = target.Timeouts.collect_static
    plan_migrations: Seconds = target.Timeouts.plan_migrations
    migrate: Seconds = target.Timeouts.migrate
    rehearse: Seconds = target.Timeouts.rehearse


Environment = Annotated[dict[EnvironmentName, Argument], WrapValidator(_or_unit), _OrString()]
AnyHealth = Annotated[HealthTable, _short_for("url", "should be a URL or a table"), _OrString()]
AnyUnit = Annotated[UnitTable, _short_for("name", "should be the name of a unit or a table"), _OrString()]


class AppFile(_Table):
    """A bb-release app: one site on this host."""

    repository: Annotated[str, AfterValidator(_repository)]
    root: Annotated[str, AfterValidator(_root)]
    branch: Branch = target.App.branch
    health: AnyHealth | None = None
    units: list[AnyUnit] = Field(default_factory=list)
    subfolder: Annotated[str, AfterValidator(lambda text: text and _relative(text))] = target.App.subfolder
    python: Python = target.App.python
    copies: bool = target.App.copies
    installer: Literal["uv", "pip"] = "uv"
    requirements: Annotated[list[Inside], _LISTED, _OrString()] = Field(default_factory=list)
    groups: list[GroupName] = Field(default_factory=list)
    extras: list[GroupName] = Field(default_factory=list)
    index_url: Annotated[str, AfterValidator(lambda text: text and _web(text))] = target.App.index_url
    cache: Absolute | None = None
    settings: Annotated[str, _like(f"|{_MODULE}", 'should be like "shop.settings"')] = target.App.settings
    application: Application = target.App.application
    manage: Inside = target.App.manage
    check_deploy: bool = target.App.check_deploy
    collect_static: bool = target.App.collect_static
    static_root_outside: bool = target.App.static_root_outside
    rehearse: bool = target.App.rehearse
    stage: bool = target.App.stage
    env_file: Absolute | None = None
    build_env_file: Absolute | None = None
    webhook_file: Absolute | None = None
    environment: Environment = Field(default_factory=dict)
    public: list[EnvironmentName] = Field(default_factory=list)
    pass_environment: list[EnvironmentName] = Field(default_factory=_factory(target.App.pass_environment))
    shared_files: list[Inside] = Field(default_factory=list)
    shared_folders: list[Inside] = Field(default_factory=list)
    keep: Annotated[int, Field(ge=1)] = target.App.keep
    deploy_key: Absolute | None = None
    known_hosts: Absolute | None = None
    git_credentials: Absolute | None = None
    allow_file_url: bool = target.App.allow_file_url
    verify: Literal["", "commit", "tag"] = ""
    signers: Annotated[list[Absolute], _LISTED, _OrString()] = Field(default_factory=list)
    submodules: bool = target.App.submodules
    lfs: bool = target.App.lfs
    run: list[RunTable] = Field(default_factory=list)
    timeouts: TimeoutsTable = Field(default_factory=TimeoutsTable)


def says(read: AppFile) -> dict[str, Any]:
    """What the file says, as JSON has it; nothing of what it leaves open."""
    # no warnings: an environment may be a unit's name instead of a table
    return read.model_dump(mode="json", exclude_unset=True, warnings=False)
