"""A release's virtual environment: made, and read without starting it. The only importer of virtualenv."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bb_release.errors import EnvironmentNotCreated, StorageFailed
from bb_release.tools import process

STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def create(
    folder: Path,
    *,
    python: str,
    cache: Path,
    seed_pip: bool,
    timeout_seconds: float = 0.0,
    copies: bool = False,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Make a fresh virtual environment in `folder`, its final path (scripts in it name that path).

    `python` is "" (the interpreter that runs the agent), a version such as "3.12", or a path. Nothing is
    downloaded; `seed_pip` puts pip in, else the environment is empty; `copies` copies the interpreter instead of
    linking to it. Our own environment variables and
    virtualenv's configuration file have no say. `on_line` gets virtualenv's warnings, after the call.
    Raises EnvironmentNotCreated: `folder` is not empty, no such interpreter, virtualenv failed or took longer than
    `timeout_seconds` (0: no limit).
    Raises StorageFailed: the disk is full, read-only, or failing.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise EnvironmentNotCreated(
            f"{folder} is not empty, so that no fresh environment can be made there",
            remedy="remove that folder if nothing uses it, then deploy again",
        )
    if "/" in python and not os.access(python, os.X_OK):
        raise _no_interpreter(python)
    words = [
        str(folder),
        "--python",
        python or getattr(sys, "_base_executable", sys.executable),
        "--app-data",
        str(cache / "virtualenv"),
    ]
    words += ["--no-vcs-ignore", "--no-periodic-update", "--no-download", "--copies" if copies else "--symlinks"]
    words += ["--no-setuptools"] if seed_pip else ["--no-seed"]
    lines: list[str] = []
    try:
        with _limited(timeout_seconds):
            _run_virtualenv(words, lines)
    except (RuntimeError, ValueError, OSError, SystemExit, _TookTooLongError) as error:
        if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
            raise StorageFailed(
                f"the environment could not be written: {error}",
                remedy="free space (or repair the file system), then deploy again",
            ) from error
        if "failed to find interpreter" in str(error):
            raise _no_interpreter(python) from error
        raise EnvironmentNotCreated(
            f"virtualenv could not create {folder}",
            remedy="correct what the details say (often the interpreter named as python), then deploy again",
            details="\n".join([*lines, f"{type(error).__name__}: {error}"][-15:]),
        ) from error
    finally:
        if on_line is not None:
            for line in lines:
                on_line(line)
    if not (folder / "bin" / "python").exists():
        raise EnvironmentNotCreated(
            f"virtualenv ended without an error, but {folder}/bin/python is not there",
            remedy="name another interpreter as python, then deploy again",
            details="\n".join(lines[-15:]),
        )


def _run_virtualenv(words: list[str], lines: list[str]) -> None:
    """Run virtualenv in this process (faster than as a program), cut off from our surroundings."""
    import virtualenv

    env = process.environment(
        {
            # an empty file instead of the user's own virtualenv.ini
            "VIRTUALENV_CONFIG_FILE": os.devnull,
            # by variable, not by option: versions that do not know the option would refuse it
            "VIRTUALENV_NO_WHEEL": "1",
            "VIRTUALENV_NO_VENV_REDIRECT": "1",
        }
    )
    said = io.StringIO()  # argparse explains itself on stderr before it raises SystemExit
    with _logging_into(lines), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            virtualenv.cli_run(words, setup_logging=False, env=env)
        finally:
            lines.extend(line for line in said.getvalue().splitlines() if line.strip())


@contextlib.contextmanager
def _logging_into(lines: list[str]) -> Iterator[None]:
    """Send all logging into `lines` meanwhile: without a handler, Python prints warnings on stderr."""
    import logging  # a timer with nothing to do asks this file for a version only

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.extend(record.getMessage().splitlines())

    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [Lines(logging.WARNING)]
    try:
        yield
    finally:
        root.handlers[:] = before


def maker() -> str:
    """Which virtualenv makes environments: it puts files of its own beside the packages."""
    from importlib import metadata

    return f"virtualenv {metadata.version('virtualenv')}"


def wanted_version(python: str) -> str:
    """Major and minor version of the interpreter that `create` would use for `python`; "" when it does not start."""
    if not python:
        return f"{sys.version_info[0]}.{sys.version_info[1]}"
    if "/" not in python:
        return ".".join(python.split(".")[:2])
    try:
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        return process.run([python, "-I", "-c", ask], capture=True, timeout_seconds=60).output.strip()
    except process.ProcessFailed:
        return ""


class _TookTooLongError(Exception):
    """No OSError: virtualenv takes those of an interpreter for "not this one"."""


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """A time limit for what runs in our own process (virtualenv asks interpreters, which may hang)."""

    def end(*_: object) -> None:
        raise _TookTooLongError(f"it did not end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _no_interpreter(python: str) -> EnvironmentNotCreated:
    """The error for an interpreter that is not there, with those that are."""
    found: set[str] = set()
    for part in process.PATH.split(":"):
        # a folder of PATH that does not exist simply has no Python in it
        with contextlib.suppress(OSError):
            found.update(str(p) for p in Path(part).iterdir() if re.fullmatch(r"python3\.\d+", p.name))
    listed = ", ".join(sorted(found)) or "none on " + process.PATH
    return EnvironmentNotCreated(
        f'there is no Python interpreter "{python}" on this host',
        remedy=f"install it, or name one of those found ({listed}), then deploy again",
    )


def python_version(folder: Path) -> str:
    """The version of an environment's Python ("3.11.2"), read from pyvenv.cfg without starting it.

    Raises EnvironmentNotCreated: the file is missing or names no version.
    """
    values = facts(folder)
    # virtualenv and uv write version_info, the standard library's venv writes version
    match = re.match(r"\d+\.\d+\.\d+", values.get("version_info") or values.get("version", ""))
    if match is None:
        raise EnvironmentNotCreated(
            f"{folder}/pyvenv.cfg is missing or names no Python version",
            remedy="deploy again, which makes a new environment",
        )
    return match.group()


def facts(folder: Path) -> dict[str, str]:
    """What pyvenv.cfg says of an environment, by keys in lower case; nothing when it cannot be read."""
    try:
        lines = (folder / "pyvenv.cfg").read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return {key.strip().lower(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def packages(folder: Path) -> dict[str, str]:
    """Installed names (normalised: lower case, dashes) and versions, from the folder names; no process."""
    return {name: info.name.removesuffix(".dist-info").rpartition("-")[2] for name, info in by_name(folder).items()}


def by_name(folder: Path) -> dict[str, Path]:
    """The *.dist-info folder of each installed package, by its normalised name."""
    found: dict[str, Path] = {}
    for info in dist_infos(folder):
        name = info.name.removesuffix(".dist-info").rpartition("-")[0]
        if name:
            found[normal(name)] = info
    return found


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it: lower case, dashes."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sites(folder: Path) -> list[Path]:
    """The site-packages, each once; lib64 is a link to lib on some systems and a folder of its own on others."""
    found = {site.resolve(): site for lib in ("lib64", "lib") for site in folder.glob(f"{lib}/python3*/site-packages")}
    return sorted(found.values())


def dist_infos(folder: Path) -> list[Path]:
    """The *.dist-info folders of all packages that are installed."""
    return sorted(info for site in sites(folder) for info in site.glob("*.dist-info"))
