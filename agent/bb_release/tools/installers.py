"""Installing requirements files into a release's environment, with uv or pip, and checking what arrived."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bb_release.errors import RequirementsNotInstalled
from bb_release.tools import byte_code, environment, indexes, process, records, uv
from bb_release.tools.requirements import plain
from bb_release.tools.requirements.pins import THEN_DEPLOY, Batch, Plan

DETAIL_LINES = 15
PIP_LOG = "pip.log"
UV_LOCK = ".lock"  # uv leaves it; nobody else installs meanwhile
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

# of a build's environment: these differ without any effect on what is built, or are secrets of an index
_SHAPES_NOTHING = re.compile(
    r"BB_\w+|PATH|VIRTUAL_ENV|HOME|USER|LOGNAME|LANG|TMPDIR|XDG_RUNTIME_DIR|\w+_(proxy|PROXY)|SSL_CERT_\w+"
    r"|REQUESTS_CA_BUNDLE|(UV_INDEX|POETRY_HTTP_BASIC)_\w+|" + "|".join(sorted(indexes.NAMES))
)


@dataclass(frozen=True)
class Installer:
    """uv (our own dependency) or pip (the one in `venv`), as it is called for one release.

    `env` is the program's whole environment; added to it are only the cache, the indexes and, for uv, what makes it
    behave like pip on this host. `index_url` "" means the index of `env` or of pip's own configuration.
    """

    name: str
    venv: Path
    cwd: Path
    cache: Path
    env: Mapping[str, str]
    index_url: str = ""
    timeout_seconds: float | None = None
    on_line: Callable[[str], None] | None = None
    pass_fds: Sequence[int] = ()

    @property
    def version(self) -> str:
        """Name and version. Another one may install other things for the same pins."""
        return f"uv {uv.version()}" if self.name == "uv" else f"pip {environment.packages(self.venv).get('pip')}"

    @property
    def shaping(self) -> dict[str, str]:
        """What of `env` may shape what is built from source: all but what names a release, a place or a password."""
        return {key: value for key, value in self.env.items() if not _SHAPES_NOTHING.fullmatch(key)}

    def install(
        self, plan: Plan, *, shared: bool = False, thorough: bool = False, but: Collection[str] = ()
    ) -> list[str]:  # fmt: skip
        """Install what `plan` has, prove that every file arrived, and make its byte code.

        `shared`: files may be links to those of uv's cache, since nobody writes to them from now on; otherwise all are
        the environment's own. With one hash in the files of a batch, all need one. Returns the files that have their
        size, but not the hash that their package recorded, which is only looked at when `thorough`. `but`: packages
        that are there and are known to be whole.
        Raises RequirementsNotInstalled: the installer failed or took too long, or installed files are incomplete
        even after a second installation without the cache.
        """
        python = str(self.venv / "bin" / "python")
        if self.name == "uv":
            # "clone" makes hard links where the file system knows no reflinks, as most do
            mode = "copy" if not shared else "clone" if os.geteuid() == 0 else "hardlink"
            argv = [uv.program(), "pip", "install", "--python", python, "--link-mode", mode]
            again = ["--no-cache", "--reinstall"]
        else:
            # -I: a folder "pip" or a typing.py at the top of the project must not shadow the real one
            argv = [python, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
            again = ["--no-cache-dir", "--force-reinstall"]
        before = set(environment.dist_infos(self.venv))

        def run(more: Sequence[str]) -> None:
            for batch in plan.batches:
                self.run([*argv, *self._options(batch), *more], plan)

        run([])
        odd: list[str] = []
        if records.check_installed(self.venv, hashes=thorough, but=but):
            # a damaged cache is the usual reason, so that the second time goes without it
            self.say("installed files are incomplete: installing once more without the cache")
            run(again)
            before = set()
            problems = records.check_installed(self.venv)
            if problems:
                raise RequirementsNotInstalled(
                    f"files installed by {self.name} are missing or not as their packages recorded them",
                    remedy=f"check the disk, empty {self.cache / self.name}, {THEN_DEPLOY}",
                    details="\n".join(problems[:DETAIL_LINES]),
                )
            odd = records.check_installed(self.venv, hashes=True) if thorough else []
        if self.name == "uv":  # pip compiles by itself
            self._compile(info for info in environment.dist_infos(self.venv) if info not in before)
        return odd

    def _compile(self, infos: Iterable[Path]) -> None:
        """Byte code of these packages, and of what lies beside all packages. Raises RequirementsNotInstalled."""
        beside = {str(path) for site in environment.sites(self.venv) for path in site.glob("*.py")}
        recorded = (path for path in records.modules(infos) if path not in beside)
        try:
            byte_code.make(
                self.venv / "bin" / "python", chain(recorded, beside), env=self.env,
                timeout_seconds=self.timeout_seconds, pass_fds=self.pass_fds,
            )  # fmt: skip
        except process.ProcessFailed as error:
            raise RequirementsNotInstalled(
                f"the byte code of the installed packages could not be made: compileall {error.reason}",
                remedy=f"check memory, the disk and the time limit, {THEN_DEPLOY}",
                details=error.output,
            ) from error

    def run(self, argv: Sequence[str], plan: Plan, *, capture: bool = False) -> str:
        """Run uv or pip for a plan: with its indexes, secrets masked. Raises RequirementsNotInstalled."""
        added, words = indexes.choose(self.name, self.env, self.index_url, plan.indexes)
        if self.name == "uv":
            added |= uv.settings(self.cache)
        else:
            added["PIP_CACHE_DIR"] = str(self.cache / "pip")
            # why an index gave nothing (a refused password from netrc, for one) is said only there
            added["PIP_LOG"] = str(self.venv / PIP_LOG)
        named = [url for batch in plan.batches for url in plain.read(batch.files).indexes]
        addresses = [value for value in self.env.values() if "://" in value]
        mask = process.Mask(list(indexes.secrets([*added.values(), *addresses, *named])))
        note = mask(_about_index(self.name, self.index_url, named))
        own = {key: value for key, value in self.env.items() if key not in indexes.NAMES}

        def say(line: str) -> None:
            if "UV_NATIVE_TLS" not in line:
                self.say(mask(line))

        if note:
            say(note)
        try:
            return process.run(
                [*argv, *words], cwd=self.cwd, env={**own, **added}, timeout_seconds=self.timeout_seconds,
                on_line=say, pass_fds=self.pass_fds, low_priority=True, capture=capture,
            ).output  # fmt: skip
        except process.ProcessFailed as error:
            raise _failed(self.name, plan.shown, error, mask, note, _unfetched(self.venv / PIP_LOG)) from error
        finally:
            for name in (PIP_LOG, UV_LOCK):
                (self.venv / name).unlink(missing_ok=True)

    def require_django(self, plan: Plan) -> None:
        """Whatever was installed, a site needs Django. Raises RequirementsNotInstalled."""
        installed = environment.packages(self.venv)
        if "django" not in installed:
            raise RequirementsNotInstalled(
                f"{self.name} ended with exit code 0, but Django is not in the environment",
                remedy=f"check that {plan.shown} is the right file, that it names Django and that no marker "
                f'(such as ; python_version < "3.9") leaves it out; push, {THEN_DEPLOY}',
                details="installed: " + (", ".join(sorted(installed)) or "nothing"),
            )

    def say(self, line: str) -> None:
        """Tell a line of what is done."""
        if self.on_line is not None:
            self.on_line(line)

    def _options(self, batch: Batch) -> list[str]:
        """What one call says of its files."""
        hashes = plain.read(batch.files).hashes
        words = ["--no-deps"] if batch.complete else []
        words += ["--require-hashes"] if hashes else []
        if hashes and batch.complete and self.name == "uv":
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


def _about_index(installer: str, index_url: str, indexes: Sequence[str]) -> str:
    """A sentence for the case that the files and the configuration name different indexes; else ""."""
    if not index_url or not indexes:
        return ""
    line = f"the requirements name an index of their own, {indexes[-1]}: "
    if installer == "pip":
        return line + "it overrides the configured index_url; remove that line"
    # uv takes the first default index it is given, and variables come before the files
    return line + "uv uses the configured index_url instead (pip would be overridden by it); remove that line"
