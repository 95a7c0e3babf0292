"""A first configuration for a repository: example.toml, in its own order and words, with what was found filled in."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bb_release import config, config_rules
from bb_release.actions.check_folders import deploy_user
from bb_release.actions.check_units import BOOTED
from bb_release.actions.survey import survey
from bb_release.actions.survey_site import Survey
from bb_release.errors import AlreadyThere, ConfigurationInvalid, PreflightFailed, UsageInvalid
from bb_release.model.app import App, Timeouts
from bb_release.tools import export, git_remote, mirror
from bb_release.tools.git_access import Access, Origin, check_ref, check_url

NO_SYSTEMD = (
    "units: no systemd runs here, and the units below are systemd's. Under Supervisor give each [[units]] its program's"
    ' name, kind = "supervisor" and socket = "…", and health the address at which it listens (docs/supervisor.md)'
)
EXAMPLE = Path(__file__).parents[1] / "example.toml"
FETCH_SECONDS = Timeouts().fetch
# the keys below tables that are filled in; all at the top may be
WANTED = {("health", "url"), ("health", "headers"), ("health", "release"), ("units", "name")}
_KEY = re.compile(r"#?([a-z_]+) = ")
_TABLE = re.compile(r"#?\[+([a-z]+)\]+")


@dataclass(frozen=True)
class Begun:
    """What was written and found: lines for a person."""

    file: Path
    found: list[str]
    missing: list[str]
    commands: list[str]


def init(repository: str, *, name: str = "", root: str = "", branch: str = "", output: Path | None = None) -> Begun:
    """Look at a repository and write the configuration of an app for it. Nothing of the repository is run.

    `repository` "" means the origin of the working folder's repository.
    Raises AlreadyThere, NoDjangoProject, UsageInvalid, ConfigurationInvalid, and what fetching raises.
    """
    url = repository or git_remote.origin_of(Path.cwd())
    if Path(url).exists():
        url = str(Path(url).resolve())
    local = config_rules.LOCAL.fullmatch(url) is not None
    access = Access(allow_file=local, passed=App.pass_environment)
    check_url(url, allow_file=local)
    if output is not None and name and output.stem != name:
        raise UsageInvalid(
            f"the file's name is the app's: {output.name} is not the app {name}", remedy=f"--output {name}.toml"
        )
    name = name or (output.stem if output else _name_of(url))
    file = output or _place(name)
    if os.path.lexists(file):
        raise AlreadyThere(
            f"{file} is there already, and is never overwritten",
            remedy=f"move it away, or write into another folder: --output FOLDER/{name}.toml",
        )
    if branch:
        check_ref(branch)
    with tempfile.TemporaryDirectory(prefix="bb-release-init-") as scratch:
        bare, tree = Path(scratch) / "mirror.git", Path(scratch) / "tree"
        mirror.fetch(url, bare, access, timeout_seconds=FETCH_SECONDS, on_line=lambda _: None)
        branch = branch or git_remote.default_branch(url, access, timeout_seconds=FETCH_SECONDS)
        # submodules and Git LFS are part of what is looked at; an objects' program that is missing is told of by check
        origin = Origin(url, access, submodules=Path(scratch) / "submodules", lfs=shutil.which("git-lfs") is not None)
        export.export_tree(bare, mirror.resolve(bare, branch), tree, origin=origin, timeout_seconds=FETCH_SECONDS)
        found = survey(tree)
        if not BOOTED.is_dir():
            found.missing.append(NO_SYSTEMD)
        root = root or f"/srv/{name}"
        tried = Path(scratch) / f"{name}.toml"
        text, app = _valid(tried, found, name=name, url=url, branch=branch, root=root, local=local)
    _write(file, text)
    return Begun(file, list(_told(found, app)), found.missing, list(_commands(app, file, chosen=output is not None)))


def _valid(tried: Path, found: Survey, *, name: str, url: str, branch: str, root: str, local: bool) -> tuple[str, App]:
    """The text and what it loads as. A finding that is no valid value is left out, and told as missing.

    Raises ConfigurationInvalid for what the command line said.
    """
    example = EXAMPLE.read_text("utf-8")
    while True:
        text = filled(example, found, name=name, url=url, branch=branch, root=root, local=local)
        tried.write_text(text, "utf-8")
        tried.chmod(0o644)
        try:
            return text, config.load(tried)
        except ConfigurationInvalid as error:
            wrong = {re.split(r"[:.\[]", line)[0] for line in error.details.splitlines()} & set(found.values)
            if not wrong:
                raise
            for key in sorted(wrong):
                value, reason = found.values.pop(key)
                found.missing.append(_plain(f"{key}: {value} ({reason}) is no valid value"))


def _name_of(url: str) -> str:
    """The repository's own name, as a name of an app."""
    path = url.rstrip("/").removesuffix("/.git").removesuffix(".git")
    name = re.sub(r"[^a-z0-9_-]+", "-", re.split(r"[/:]", path)[-1].lower()).strip("-_")
    return name[:63] or "site"


def _place(name: str) -> Path:
    folder = config.FOLDER if os.access(config.FOLDER, os.W_OK) else Path.cwd()
    return folder / f"{name}.toml"


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(text)
    except OSError as error:
        raise PreflightFailed(
            f"{file} could not be written: {error.strerror}",
            remedy="write it elsewhere with --output FILE, or run this as root",
        ) from error


def filled(example: str, found: Survey, *, name: str, url: str, branch: str, root: str, local: bool) -> str:
    """The example with the values that were found, each below its reason."""
    values: dict[str, tuple[object, str]] = {
        "repository": (url, ""), "branch": (branch, ""), "root": (root, ""),
        "name": (f"{name}.service", ""), **found.values,
        "url": (f"http+unix:///run/{name}/web.sock:{found.health[0]}", found.health[1]),
    }  # fmt: skip
    if local:
        values["allow_file_url"] = True, "the repository lies on this machine"
    if found.variables:
        values["env_file"] = f"{root}/shared/site.env", ""
    if found.headers:
        values["headers"] = found.headers, "of the settings: ALLOWED_HOSTS, SECURE_SSL_REDIRECT"
    if found.release[0]:
        values["release"] = found.release
    lines: list[str] = []
    table = ""
    for line in example.splitlines():
        head, key = _TABLE.fullmatch(line), _KEY.match(line)
        if head:
            if (table, line) == ("units", "#[[units]]"):
                lines += _more_units(name, found)
            table = head[1] if not line.startswith("#") else line
        wanted = key[1] if key and ((table, key[1]) in WANTED or not table) else ""
        if wanted == "env_file":
            lines += _listed(found)
        if wanted in values:
            value, reason = values[wanted]
            lines += [f"# Found: {_plain(reason)}."] if reason else []
            lines.append(f"{wanted} = {_toml(value)}")
            continue
        if wanted in found.notes:
            lines.append(f"# Found: {_plain(found.notes[wanted])}.")
        lines.append(_for_this(line, name, root))
    return "\n".join(lines) + "\n"


def _more_units(name: str, found: Survey) -> Iterator[str]:
    """Tables for Celery, before the example's own comments on further units."""
    if found.celery:
        yield from ("[[units]]", f'name = "{name}-celery.service"', f"celery = {_toml(found.celery)}", "")
    if found.beat:
        yield from ("[[units]]", f'name = "{name}-beat.service"', "")


def _listed(found: Survey) -> Iterator[str]:
    for title, needed in (("The settings need these:", True), ("They read these, which have a default:", False)):
        names = [each.name for each in found.variables if each.needed is needed]
        if names:
            yield f"# {title}"
            yield from (f"#   {name}" for name in names)


def _for_this(line: str, name: str, root: str) -> str:
    """An example's own line, speaking of this app where it is an example."""
    if not line.startswith("#") or not re.search(r"[/\"]shop", line):
        return line
    return line.replace("/srv/shop", _plain(root)).replace("/shop", f"/{name}").replace('"shop', f'"{name}')


def _toml(value: object) -> str:
    """A value as TOML: JSON is the same for strings, lists and booleans."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    """A repository's words in a comment: one line, no control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:300]


def _told(found: Survey, app: App) -> Iterator[str]:
    for key, (value, reason) in found.values.items():
        yield f"{key} = {_toml(value)}  ({_plain(reason)})"
    yield from (f"{key}: {_plain(note)}" for key, note in found.notes.items())
    yield f"health: {found.health[0]}  ({_plain(found.health[1])})"
    yield f"units: {', '.join(unit.name for unit in app.units)}"
    needed = [each.name for each in found.variables if each.needed]
    if found.variables:
        yield f"environment: {len(found.variables)} variables, needed: {', '.join(needed) or 'none'}"


def _commands(app: App, file: Path, *, chosen: bool) -> Iterator[str]:
    """What to type next, in order. A file that nobody chose a place for belongs into the one folder of all apps."""
    root, shared = shlex.quote(str(app.root)), app.layout.shared
    home = config.FOLDER / file.name
    if file != home and not chosen:
        yield f"sudo install -D -m 644 {shlex.quote(str(file))} {home}"
    if not app.root.is_dir():
        owner = deploy_user()
        yield f"sudo install -d -o {owner} -m 755 {root}   # {owner}: whoever is to run bb-release"
    made = [f"mkdir -p {shlex.quote(str(shared))}"]
    made += [f"install -m 600 /dev/null {shlex.quote(str(app.env_file))}"] if app.env_file else []
    made += [f"mkdir -p {shlex.quote(str(shared / name))}" for name in app.shared_folders]
    made += [f"touch {shlex.quote(str(shared / name))}" for name in app.shared_files]
    if len(made) > 1:
        yield " && ".join(made) + "   # as that user" + ("; then fill in site.env" if app.env_file else "")
    yield f"bb-release {f'--config {shlex.quote(str(file))}' if chosen else f'-a {app.name}'} check   # as that user"
