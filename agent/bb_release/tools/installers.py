"""Installing requirements files into a release's environment, with uv or pip, and checking what arrived."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bb_release.errors import RequirementsNotInstalled
from bb_release.tools import environment, indexes, process, uv
from bb_release.tools.requirements.pins import THEN_DEPLOY, Batch, Plan

DETAIL_LINES = 15
PIP_LOG = "pip.log"
# progress and hints: none of it says why an installation failed
_NOISE = re.compile(
    r"\s*$|\s*(Collecting|Downloading|Using cached|Using Python|Looking in|Processing|Obtaining|Preparing|"
    r"Resolved|Prepared|Requirement already|\[notice\]|WARNING: Location|warning: The `UV_NATIVE_TLS`)"
)

# how pip and uv say that they were not let in
_REFUSED = re.compile(r"\b40[13] (Client )?Error|\b401 Unauthorized|\b403 Forbidden|HTTP error 40[13]")
_UNREACHABLE = re.compile(
    "onnection refused|tcp connect error|onnection reset|timed out|name resolution|dns error|Name or service not known"
    "|Network is unreachable|No route to host|NewConnectionError|Failed to fetch"
)


@dataclass
class _Read:
    """What the requirements files say that decides how the installer is called."""

    hashes: bool = False
    indexes: list[str] = field(default_factory=list)


def install(
    venv: Path,
    plan: Plan,
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
    """Install what `plan` has into `venv` and prove that every file and Django arrived.

    `installer` is "uv" (our own dependency) or "pip" (the one in `venv`). `env` is the program's whole
    environment; added to it are only the cache, the indexes and, for uv, what makes it behave like pip on this
    host. `index_url` "" means the index of `env` or of pip's own configuration. With one hash in the files of a
    batch, all need one. Raises RequirementsNotInstalled: the installer failed or took too long, installed files
    are incomplete even after a second installation without the cache, or Django is not there.
    """
    shown = plan.shown
    added, words = indexes.choose(installer, env, index_url, plan.indexes)
    if installer == "uv":
        argv = [uv.program(), "pip", "install", "--python", str(venv / "bin" / "python"), "--link-mode", "hardlink"]
        added |= uv.settings(cache)
        again = ["--no-cache", "--reinstall"]
    else:
        # -I: a folder "pip" or a typing.py at the top of the project must not shadow the real one
        argv = [str(venv / "bin" / "python"), "-I", "-m", "pip", "install"]
        argv += ["--no-input", "--disable-pip-version-check"]
        added["PIP_CACHE_DIR"] = str(cache / "pip")
        # why an index gave nothing (a refused password from netrc, for one) is said only there
        added["PIP_LOG"] = str(venv / PIP_LOG)
        again = ["--no-cache-dir", "--force-reinstall"]
    calls = [(batch, _Read()) for batch in plan.batches]
    for batch, read in calls:
        _read_files(batch.files, read)
    named = [url for _, read in calls for url in read.indexes]
    addresses = [value for value in env.values() if "://" in value]
    mask = process.Mask(list(indexes.secrets([*added.values(), *addresses, *named])))
    note = mask(_about_index(installer, index_url, named))
    own = {key: value for key, value in env.items() if key not in indexes.NAMES}

    def say(line: str) -> None:
        if on_line is not None and "UV_NATIVE_TLS" not in line:
            on_line(mask(line))

    def run(more: Sequence[str]) -> None:
        for batch, read in calls:
            try:
                process.run(
                    [*argv, *words, *_options(installer, batch, read), *more],
                    cwd=cwd,
                    env={**own, **added},
                    timeout_seconds=timeout_seconds,
                    on_line=say,
                    pass_fds=pass_fds,
                    low_priority=True,
                )
            except process.ProcessFailed as error:
                raise _failed(installer, shown, error, mask, note, _unfetched(venv / PIP_LOG)) from error
            finally:
                (venv / PIP_LOG).unlink(missing_ok=True)

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


def _options(installer: str, batch: Batch, read: _Read) -> list[str]:
    """What one call says of its files."""
    words = ["--no-deps"] if batch.complete else []
    words += ["--require-hashes"] if read.hashes else []
    if read.hashes and batch.complete and installer == "uv":
        # look in every index, as pip does: what is taken is said by the hashes
        words += ["--index-strategy", "unsafe-best-match"]
    return words + [word for path in batch.files for word in ("-r", str(path))]


def _unfetched(log: Path) -> list[str]:
    """What pip's own log says of pages that it could not get, each once."""
    try:
        text = log.read_text("utf-8", "replace")
    except OSError:
        return []
    return list(dict.fromkeys(re.findall(r"Could not fetch URL .*?(?= - skipping|$)", text, re.MULTILINE)))[:3]


def _failed(
    installer: str, shown: str, error: process.ProcessFailed, mask: process.Mask, note: str, unfetched: Sequence[str]
) -> RequirementsNotInstalled:
    """The error for an installer that ended badly, with its last lines that matter."""
    output = "\n".join([error.output, *unfetched])
    lines = [mask(line) for line in output.splitlines() if not _NOISE.match(line)]
    if error.returncode is not None and error.returncode > 0 and _REFUSED.search(output):
        return RequirementsNotInstalled(
            f"{installer} could not install {shown}: an index refused the user or password",
            remedy=f"correct them in netrc or build_env_file, {THEN_DEPLOY}",
            details="\n".join(lines[-DETAIL_LINES:]),
        )
    if error.returncode is not None and error.returncode > 0:
        return RequirementsNotInstalled(
            f"{installer} could not install {shown}",
            remedy=f"check the network, the index and index_url, {THEN_DEPLOY}"
            if _UNREACHABLE.search("\n".join(lines))
            else f"correct the pin and push, {THEN_DEPLOY}" + (f" ({note})" if note else ""),
            details="\n".join(lines[-DETAIL_LINES:]),
        )
    # not started, a signal or the time limit: no pin is at fault
    return RequirementsNotInstalled(
        f"{installer} could not install {shown}: it {error.reason}",
        remedy="check the connection to the index, memory and the time limit, then run: bb-release deploy",
        details="\n".join(lines[-DETAIL_LINES:]),
    )


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
