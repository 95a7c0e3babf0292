"""What git may be given: checked urls and refs, keys and credentials, an environment that leaks nothing.

Nothing that a user wrote reaches git as an option, as configuration or as a program to run.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bb_release.errors import ConfigurationInvalid, RefInvalid, shortened
from bb_release.tools import process

_REF = re.compile(r"\A(?!-)[A-Za-z0-9._/+@-]{1,200}\Z")
_REF_FORBIDDEN = re.compile(r"\.\.|@\{|//|\A/|/\Z|\.\Z|(\A|/)\.|\.lock(/|\Z)|\A@\Z")
# user@host:path, the user may be left out as in the configuration; https:/x is a mistyped url, and no host's name
_SCP = re.compile(
    r"\A(?!(?:https?|ssh|git|file|ext|fd):)(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?([A-Za-z0-9][A-Za-z0-9._-]*):(?!-|//)\S+\Z"
)

_LARGEST = 1_000_000  # bytes of a credentials file
_LEAST_TOKEN = 20  # characters: a user's name that long is a token


@dataclass(frozen=True)
class Access:
    """How a remote may be reached. `passed` are names of environment variables passed on (a proxy, say)."""

    deploy_key: Path | None = None
    known_hosts: Path | None = None
    credentials: Path | None = None
    allow_file: bool = False
    passed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """Where a tree comes from, and what is fetched besides its own repository. By default nothing is."""

    url: str = ""
    access: Access = field(default_factory=Access)
    submodules: Path | None = None  # the folder of their mirrors; None: they are off
    lfs: bool = False
    fetch_seconds: float = 600.0  # for each repository, and for the objects of Git LFS


def check_url(url: str, *, allow_file: bool) -> None:
    """Let only plain https, ssh and (when allowed) local urls through. Raises ConfigurationInvalid."""

    def refuse(why: str) -> ConfigurationInvalid:
        return ConfigurationInvalid(
            f"the repository url is refused: {why}",
            remedy="Use https://host/path, ssh://user@host/path or user@host:path (file:// where allowed).",
        )

    if not url.isprintable() or any(letter.isspace() for letter in url):
        raise refuse("it has control characters or spaces")
    if "::" in url:  # transport::address runs a program named git-remote-<transport>
        raise refuse("it names a transport helper ('::')")
    if url.startswith(("file:///", "/")):
        if not allow_file or url.endswith("/*"):  # newer gits read a safe.directory ending in /* as a pattern
            raise refuse("a local path is not allowed here")
        return
    if _SCP.match(url):
        return
    try:
        parts = urlsplit(url)
        host, password, _ = parts.hostname, parts.password, parts.port
    except ValueError:
        raise refuse("it cannot be read as a url") from None
    if parts.scheme not in ("https", "ssh") or not url.startswith(("https://", "ssh://")):
        raise refuse("its scheme is not https or ssh")
    if not host or host.startswith("-") or parts.netloc.startswith("-"):
        raise refuse("its host is missing or starts with '-'")
    if password is not None:
        raise refuse("it holds a password; put that into the credentials file")


def check_ref(ref: str) -> None:
    """Let only plain branch names, tag names and hashes through. Raises RefInvalid.

    The rules beyond the alphabet are those of git-check-ref-format(1).
    """
    if not _REF.match(ref) or _REF_FORBIDDEN.search(ref):
        raise RefInvalid(
            f"not a branch, tag or hash: {shortened(ref, 80)!r}", remedy="Give the name as `git branch` shows it."
        )


def git_environment(access: Access) -> dict[str, str]:
    """The whole environment of git. Raises ConfigurationInvalid for a key that others can read.

    Of what is passed on, names of git's own are left out: GIT_SSL_NO_VERIFY switches verification off, GIT_DIR
    leads elsewhere. git's curl does not read SSL_CERT_FILE (only the curl program does), so git is told of it.
    """
    ssh = ["ssh", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes"]
    if access.deploy_key is not None:
        check_secret(access.deploy_key)
        ssh += ["-i", str(access.deploy_key), "-oIdentitiesOnly=yes"]
    if access.known_hosts is not None:
        _check_path(access.known_hosts)
        ssh.append(f'-oUserKnownHostsFile="{access.known_hosts}"')  # ssh itself splits the value at spaces
    extra = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": "https:ssh:file" if access.allow_file else "https:ssh",
        "GIT_SSH_COMMAND": shlex.join(ssh),
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
    for name, ours in (("SSL_CERT_FILE", "GIT_SSL_CAINFO"), ("SSL_CERT_DIR", "GIT_SSL_CAPATH")):
        if name in access.passed and os.environ.get(name):
            extra[ours] = os.environ[name]
    return process.environment(extra, passed=[name for name in access.passed if not name.startswith("GIT_")])


def _check_path(path: Path) -> None:
    """Refuse what ssh would expand in a path: ssh_config(5), TOKENS and ENVIRONMENT VARIABLES."""
    if not path.is_absolute() or re.search(r"""[\x00-\x1f"'%$\\]""", str(path)):
        raise ConfigurationInvalid(f"{path} is refused", remedy="Use an absolute path without quotes, %, $ or \\.")


def check_secret(path: Path) -> None:
    """Refuse a key or credentials file that is missing, no plain file, not readable, or of another mode than 0600."""
    _check_path(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: {error.strerror}", remedy="Create it, with mode 0600.") from error
    if not stat.S_ISREG(mode) or stat.S_IMODE(mode) != 0o600:
        raise ConfigurationInvalid(
            f"{path} has mode {stat.S_IMODE(mode):04o}", remedy=f"chmod 600 {shlex.quote(str(path))}"
        )
    if not os.access(path, os.R_OK):
        raise ConfigurationInvalid(
            f"{path} cannot be read by user {os.geteuid()}", remedy=f"chown {os.geteuid()} {shlex.quote(str(path))}"
        )


def upload_pack(url: str) -> list[str]:
    """Trust exactly this local repository of another user; nothing for any other url. See `fetch`."""
    if not url.startswith(("file:///", "/")):
        return []
    path = Path(unquote(url.removeprefix("file://")) if url.startswith("file:") else url)
    trusted = [each for each in (path, path / ".git") if each.exists() and each.stat().st_uid != os.geteuid()]
    if not trusted:
        return []
    words = [word for each in (path, path / ".git") for word in ("-c", f"safe.directory={each}")]
    return ["--upload-pack=" + shlex.join(["git", *words, "upload-pack"])]


def ssh_host(url: str) -> tuple[str, int | None]:
    """The host that a checked url names, and the port where it names one; the host is "" for a local path."""
    scp = _SCP.match(url)
    if scp:
        return scp.group(1), None
    parts = urlsplit(url)
    return parts.hostname or "", parts.port


def secrets_of(access: Access) -> list[str]:
    """What must never be shown of the credentials file, as it is written there and as it is sent."""
    if access.credentials is None:
        return []
    try:
        handle = os.open(access.credentials, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold us
        with os.fdopen(handle, "rb") as stream:
            content = stream.read(_LARGEST) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    except OSError:  # said by check_secret, with a remedy
        return []
    found = []
    for line in content.decode("utf-8", "replace").splitlines():
        user, _, password = line.strip().partition("://")[2].rpartition("@")[0].partition(":")
        found += [password, *([user] if len(user) >= _LEAST_TOKEN else [])]
    return [form for each in found if each for form in (each, unquote(each))]
