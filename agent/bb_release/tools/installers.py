"""Installing requirements files into a release's environment, with uv or pip, and checking what arrived."""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bb_release.errors import RequirementsNotInstalled
from bb_release.tools import environment, process

DETAIL_LINES = 15
SYSTEM_PIP_CONFIG = Path("/etc/pip.conf")
THEN_DEPLOY = "then run: bb-release deploy"
# progress and hints: none of it says why an installation failed
_NOISE = re.compile(
    r"\s*$|\s*(Collecting|Downloading|Using cached|Using Python|Looking in|Processing|Obtaining|Preparing|"
    r"Resolved|Prepared|Requirement already|\[notice\]|WARNING: Location|warning: The `UV_NATIVE_TLS`)"
)


@dataclass
class _Read:
    """What the requirements files say that decides how the installer is called."""

    hashes: bool = False
    indexes: list[str] = field(default_factory=list)


def install(
    venv: Path,
    files: Sequence[Path],
    *,
    installer: str,
    cwd: Path,
    cache: Path,
    env: Mapping[str, str],
    index_url: str,
    timeout_seconds: float | None,
    on_line: Callable[[str], None] | None,
    pass_fds: Sequence[int] = (),
) -> None:
    """Install `files` (relative to `cwd`) into `venv` and prove that every file and Django arrived.

    `installer` is "uv" (our own dependency) or "pip" (the one in `venv`). `env` is the program's whole
    environment; added to it are only the cache, the index and, for uv, what makes it behave like pip on this
    host. `index_url` "" means the index of pip's own configuration. With one hash in the files, all need one.
    Raises RequirementsNotInstalled: a file is missing, the installer failed or took too long, installed files
    are incomplete even after a second installation without the cache, or Django is not there.
    """
    paths = [cwd / file for file in files]
    shown = ", ".join(str(file) for file in files)
    if not files:
        raise RequirementsNotInstalled(
            "no requirements file is named", remedy=f"name one in the configuration, {THEN_DEPLOY}"
        )
    for file, path in zip(files, paths, strict=True):
        if not path.is_file():
            raise RequirementsNotInstalled(
                f"the requirements file {file} is not there",
                remedy=f"push {file}, or correct its name in the configuration, {THEN_DEPLOY}",
            )
    read = _Read()
    _read_files(paths, read)
    if installer == "uv":
        argv, added = _uv(venv, cache, env, index_url)
        again = ["--no-cache", "--reinstall"]
    else:
        # -I: a folder "pip" or a typing.py at the top of the project must not shadow the real one
        argv = [str(venv / "bin" / "python"), "-I", "-m", "pip", "install"]
        argv += ["--no-input", "--disable-pip-version-check"]
        added = {"PIP_CACHE_DIR": str(cache / "pip")}
        if index_url:
            added["PIP_INDEX_URL"] = index_url
        again = ["--no-cache-dir", "--force-reinstall"]
    if read.hashes:
        argv.append("--require-hashes")
    for path in paths:
        argv += ["-r", str(path)]
    mask = process.Mask(list(_secrets([*added.values(), *read.indexes])))
    note = mask(_about_index(installer, index_url, read.indexes))

    def say(line: str) -> None:
        if on_line is not None and "UV_NATIVE_TLS" not in line:
            on_line(mask(line))

    def run(more: Sequence[str]) -> None:
        try:
            process.run(
                [*argv, *more],
                cwd=cwd,
                env={**env, **added},
                timeout_seconds=timeout_seconds,
                on_line=say,
                pass_fds=pass_fds,
                low_priority=True,
            )
        except process.ProcessFailed as error:
            raise _failed(installer, shown, error, mask, note) from error

    if note:
        say(note)
    run([])
    if environment.check_installed(venv):
        # a damaged cache is the usual reason, so that the second time goes without it
        say("installed files are incomplete: installing once more without the cache")
        run(again)
        problems = environment.check_installed(venv)
        if problems:
            raise RequirementsNotInstalled(
                f"files installed by {installer} are missing or not as their packages recorded them",
                remedy=f"check the disk, empty {cache / installer}, {THEN_DEPLOY}",
                details="\n".join(problems[:DETAIL_LINES]),
            )
    if "django" not in environment.packages(venv):
        raise RequirementsNotInstalled(
            f"{installer} ended with exit code 0, but Django is not in the environment",
            remedy=f"check that {shown} is the right file, that it names Django and that no marker "
            f'(such as ; python_version < "3.9") leaves it out; push, {THEN_DEPLOY}',
            details="installed: " + (", ".join(sorted(environment.packages(venv))) or "nothing"),
        )


def _failed(
    installer: str, shown: str, error: process.ProcessFailed, mask: process.Mask, note: str
) -> RequirementsNotInstalled:
    """The error for an installer that ended badly, with its last lines that matter."""
    lines = [mask(line) for line in error.output.splitlines() if not _NOISE.match(line)]
    if error.returncode is not None and error.returncode > 0:
        return RequirementsNotInstalled(
            f"{installer} could not install {shown}",
            remedy=f"correct the pin and push, {THEN_DEPLOY}" + (f" ({note})" if note else ""),
            details="\n".join(lines[-DETAIL_LINES:]),
        )
    # not started, a signal or the time limit: no pin is at fault
    return RequirementsNotInstalled(
        f"{installer} could not install {shown}: it {error.reason}",
        remedy="check the connection to the index, memory and the time limit, then run: bb-release deploy",
        details="\n".join(lines[-DETAIL_LINES:]),
    )


def _uv(venv: Path, cache: Path, env: Mapping[str, str], index_url: str) -> tuple[list[str], dict[str, str]]:
    """Uv's command, and the variables that make it behave on this host as pip does."""
    import uv  # not needed where pip installs

    try:
        binary = uv.find_uv_bin()
    except FileNotFoundError as error:
        raise RequirementsNotInstalled(
            "the uv program of bb-release is not there",
            remedy='install bb-release again, or set the installer to "pip"',
        ) from error
    argv = [binary, "pip", "install", "--python", str(venv / "bin" / "python"), "--link-mode", "hardlink"]
    added = {
        "UV_CACHE_DIR": str(cache / "uv"),
        "UV_PYTHON_DOWNLOADS": "never",
        # what is installed depends on the requirements files and the index alone
        "UV_NO_CONFIG": "1",
        # the system's certificates; the second name is for older versions
        "UV_SYSTEM_CERTS": "1",
        "UV_NATIVE_TLS": "1",
    }
    # by variables: an address may hold a password, and everybody sees command lines
    if index_url:
        added["UV_DEFAULT_INDEX"] = index_url
        return argv, added
    settings = _pip_settings(env)
    if settings.get("index-url"):
        added["UV_DEFAULT_INDEX"] = settings["index-url"]
    if settings.get("extra-index-url"):
        added["UV_INDEX"] = " ".join(settings["extra-index-url"].split())
    if settings.get("find-links"):
        added["UV_FIND_LINKS"] = ",".join(settings["find-links"].split())
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        argv.append("--no-index")
    return argv, added


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


def _read_files(paths: Sequence[Path], read: _Read) -> None:
    """Look into requirements files, and those they include, for hashes and for an index of their own."""
    waiting, seen = list(paths), set[Path]()
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue  # an included file that is missing: the installer says so, and better
        for whole in text.splitlines():
            line = re.sub(r"(^|\s)#.*", "", whole).strip()
            read.hashes = read.hashes or re.search(r"(^|\s)--hash[=\s]", line) is not None
            index = re.match(r"(?:-i|--index-url)(?:\s*=\s*|\s+|(?<=-i))(\S+)", line)
            if index:
                read.indexes.append(index.group(1))
            included = re.match(r"(?:-r\s*|--requirement(?:\s+|\s*=\s*))([^\s=].*)", line)
            if included and "://" not in line:
                waiting.append(path.parent / included.group(1).strip())


def _about_index(installer: str, index_url: str, indexes: Sequence[str]) -> str:
    """A sentence for the case that the files and the configuration name different indexes; else ""."""
    if not index_url or not indexes:
        return ""
    line = f"the requirements name an index of their own, {indexes[-1]}: "
    if installer == "pip":
        return line + "it overrides the configured index_url; remove that line"
    # uv takes the first default index it is given, and variables come before the files
    return line + "uv uses the configured index_url instead (pip would be overridden by it); remove that line"


def _secrets(values: Sequence[str]) -> Iterator[str]:
    """User names (tokens are sent as such) and passwords in the addresses among `values`."""
    for word in (word for value in values for word in re.split(r"[\s,]+", value)):
        try:
            parts = urlsplit(word)
        except ValueError:
            continue  # not an address
        yield from (part for part in (parts.username, parts.password) if part)
