"""The bare copy of the site's repository on this host: checked urls and refs, fetch, resolve, export.

Nothing that a user, a remote or a former intruder wrote reaches git as an option, as configuration or as a
program to run. The only importer of GitPython. Callers hold the app's lock around `fetch`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bb_release.errors import ConfigurationInvalid, MirrorNotUpdated, RefInvalid, RefNotFound, TreeNotExported
from bb_release.tools import process

_REF = re.compile(r"\A(?!-)[A-Za-z0-9._/+@-]{1,200}\Z")
_REF_FORBIDDEN = re.compile(r"\.\.|@\{|//|\A/|/\Z|\.\Z|(\A|/)\.|\.lock(/|\Z)|\A@\Z")
_FULL_HASH = re.compile(r"\A([0-9a-f]{40}|[0-9a-f]{64})\Z")
_SCP = re.compile(r"\A[A-Za-z0-9_][A-Za-z0-9._-]*@([A-Za-z0-9][A-Za-z0-9._-]*):(?!-)\S+\Z")
_LOCAL_SECONDS = 120.0
# core.fsync: by default git syncs nothing of a small fetch (reliability.md, P11); hooksPath, fsmonitor: no code
_SETTINGS = (
    "core.fsync=all", "transfer.unpackLimit=1", "gc.auto=0", "maintenance.auto=false",
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null",
    "transfer.fsckObjects=true", "credential.helper=",
)  # fmt: skip
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_CONFIG_SHA256 = _CONFIG.replace("= 0", "= 1") + "[extensions]\n\tobjectformat = sha256\n"
# wins over every .gitattributes in the tree (gitattributes(5)), so that files leave git byte for byte
_ATTRIBUTES = "* -text !eol !crlf -ident !filter !working-tree-encoding\n"
# each can point git at another repository, hide missing objects, or name another remote (gitrepository-layout(5))
_PLANTABLE = (
    "commondir", "config.worktree", "objects/info/alternates", "objects/info/http-alternates", "info/grafts",
    "shallow", "remotes", "branches", "hooks",
)  # fmt: skip


@dataclass(frozen=True)
class Access:
    """How a remote may be reached. `passed` are names of environment variables passed on (a proxy, say)."""

    deploy_key: Path | None = None
    known_hosts: Path | None = None
    credentials: Path | None = None
    allow_file: bool = False
    passed: tuple[str, ...] = ()


def check_url(url: str, *, allow_file: bool) -> None:
    """Let only plain https, ssh and (when allowed) local urls through. Raises ConfigurationInvalid."""

    def refuse(why: str) -> ConfigurationInvalid:
        return ConfigurationInvalid(
            f"the repository url is refused: {why}",
            remedy="Use https://host/path, ssh://user@host/path or user@host:path (file:// where it is allowed).",
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
            f"not a branch, tag or hash: {ref[:80]!r}", remedy="Give the name as `git branch` shows it."
        )


def fetch(
    url: str,
    mirror: Path,
    access: Access,
    *,
    timeout_seconds: float,
    on_line: Callable[[str], None],
    pass_fds: Sequence[int] = (),
) -> None:
    """Bring the mirror up to date: all branches and tags; what the remote no longer has goes.

    A missing or broken mirror is cloned aside and renamed into place; until then the old one is kept.
    A local repository of another user is read with safe.directory set to that very path. git 2.39.5 ignores
    `-c safe.directory` for the upload-pack it starts, so it is given inside --upload-pack [tried].
    Raises ConfigurationInvalid, and MirrorNotUpdated with git's own words.
    """
    check_url(url, allow_file=access.allow_file)
    deadline = time.monotonic() + timeout_seconds
    aside, old = (mirror.with_name(mirror.name + end) for end in (".new", ".old"))

    def git(where: Path, *words: str, capture: bool = False) -> str:
        left = max(0.1, deadline - time.monotonic())
        return process.run(
            _argv(where, *words, access=access), env=_environment(access), timeout_seconds=left,
            on_line=on_line, capture=capture, pass_fds=pass_fds,
        ).output  # fmt: skip

    def update(where: Path) -> None:
        git(where, "fetch", "--prune", "--force", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            *_upload_pack(url), "--", url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")  # fmt: skip

    if not os.path.lexists(mirror) and os.path.lexists(old):
        old.rename(mirror)  # we were ended between the two renames below
    for leftover in (aside, old):
        _remove(leftover)
    try:
        if os.path.lexists(mirror):
            _settle(mirror)
            _clear_leftovers(mirror)
            failed: process.ProcessFailed | None = None
            try:
                update(mirror)
            except process.ProcessFailed as error:
                if error.returncode is None or error.returncode < 0:  # time limit or signal: says nothing
                    raise
                failed = error
            try:
                git(mirror, "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
            except process.ProcessFailed as error:
                if error.returncode is None or error.returncode < 0:
                    raise
                on_line("the mirror is broken; it is cloned anew")
            else:
                if failed is not None:  # the mirror is sound, so the remote or the way to it is not
                    raise failed
                return
        mirror.parent.mkdir(parents=True, exist_ok=True)
        listed = git(Path("/dev/null"), "ls-remote", *_upload_pack(url), "--", url, capture=True)
        kind = "sha256" if re.match(r"[0-9a-f]{64}\t", listed) else "sha1"
        git(aside, "init", "--quiet", "--bare", "--template=", f"--object-format={kind}", "--", str(aside))
        _settle(aside)
        update(aside)
    except process.ProcessFailed as error:
        raise _not_updated(url, access, error) from error
    if os.path.lexists(mirror):
        mirror.rename(old)
    aside.rename(mirror)
    folder = os.open(mirror.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # a rename is durable once its folder is synced
    finally:
        os.close(folder)
    _remove(old)


def resolve(mirror: Path, ref: str) -> str:
    """The full hash of the commit that a branch, a tag (peeled), or a commit's hash or its prefix names.

    A full hash is always itself, as in git; else a branch wins over a tag, and both over a prefix.
    Raises RefInvalid, RefNotFound (also for a prefix of several commits), MirrorNotUpdated without a mirror.
    """
    check_ref(ref)
    _settle(mirror)
    names = [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    if re.fullmatch(r"[0-9a-fA-F]{4,64}", ref):
        names.insert(0 if _FULL_HASH.match(ref.lower()) else 2, ref)
    for name in names:
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
        done = process.run(
            _argv(mirror, *words),
            env=_environment(Access()),
            timeout_seconds=_LOCAL_SECONDS,
            capture=True,
            check=False,
        )
        found = done.output.strip()
        # a file named like a prefix in the mirror's folder would be read as a ref: the hash must start with it
        if (
            done.returncode == 0
            and _FULL_HASH.match(found)
            and (name != ref or found.startswith(ref.lower()))
        ):
            return found
    raise RefNotFound(
        f"no branch, tag or commit {ref!r}", remedy="Push it, or check the name with `git ls-remote`."
    )


def remote_revision(url: str, ref: str, access: Access, *, timeout_seconds: float) -> str | None:
    """The hash a branch or tag (peeled) has at the remote now, without fetching; None when it has no such name.

    A hash gives None: remotes list names only. Raises RefInvalid, ConfigurationInvalid, MirrorNotUpdated.
    """
    check_ref(ref)
    check_url(url, allow_file=access.allow_file)
    wanted = [f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]
    argv = _argv(Path("/dev/null"), "ls-remote", *_upload_pack(url), "--", url, *wanted, access=access)
    try:
        done = process.run(argv, env=_environment(access), timeout_seconds=timeout_seconds, capture=True)
    except process.ProcessFailed as error:
        raise _not_updated(url, access, error) from error
    pairs = (line.partition("\t") for line in done.output.splitlines())
    listed = {name: found for found, _, name in pairs}
    return next((listed[name] for name in wanted if name in listed), None)


def export(
    mirror: Path,
    revision: str,
    into: Path,
    *,
    timeout_seconds: float,
    pass_fds: Sequence[int] = (),
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Write the exact tree of a full hash into an empty folder: no filter, export-ignore, or line end changes.

    Not `git archive`, which obeys export-ignore and export-subst. The caller syncs the folder to disk, and
    throws it away after a failure. Raises TreeNotExported (missing objects, submodules, Git LFS, links that
    lead out of the tree), MirrorNotUpdated without a mirror.
    """
    into.mkdir(parents=True, exist_ok=True)
    if not _FULL_HASH.match(revision) or into.is_symlink() or os.listdir(into):
        raise TreeNotExported(
            f"{revision[:64]!r} is not a full hash, or {into} is not an empty folder", remedy="Deploy again."
        )
    _settle(mirror)
    deadline = time.monotonic() + timeout_seconds
    with tempfile.TemporaryDirectory(prefix="bb-release-index-") as scratch:
        environment = _environment(Access()) | {"GIT_INDEX_FILE": f"{scratch}/index"}

        def git(*words: str, capture: bool = False) -> str:
            return process.run(
                [*_argv(mirror, f"--work-tree={into}"), *words], cwd=into, env=environment, on_line=on_line,
                timeout_seconds=max(0.1, deadline - time.monotonic()), capture=capture, pass_fds=pass_fds,
            ).output  # fmt: skip

        try:
            entries = [
                e for e in git("ls-tree", "-r", "-z", "--full-tree", revision, capture=True).split("\0") if e
            ]
            modules = [entry.partition("\t")[2] for entry in entries if entry.startswith("160000 ")]
            if modules:
                raise TreeNotExported(
                    "the repository has submodules, which are not supported", details="\n".join(modules),
                    remedy="Put their files into the repository (git subtree), or require them as packages.",
                )  # fmt: skip
            git("read-tree", revision)
            git("checkout-index", "--all", "--force", "--quiet")
        except process.ProcessFailed as error:
            raise TreeNotExported(
                f"the tree of {revision} could not be written: {error}", details=error.output,
                remedy="Deploy again: a broken mirror is cloned anew. Check the free space if it stays so.",
            ) from error  # fmt: skip
    if _check_tree(into) != len(entries):
        raise TreeNotExported(f"the tree of {revision} is not complete", remedy="Deploy again.")


def commits_between(mirror: Path, old: str, new: str) -> list[str]:
    """At most 50 lines "abc1234 subject", newest first, for what `new` has and `old` has not; full hashes only.

    Raises RefNotFound when the mirror lacks one of them, MirrorNotUpdated without a mirror.
    """
    unknown = RefNotFound(
        f"no commits {old[:64]!r} and {new[:64]!r}", remedy="Fetch; the old one may be gone."
    )
    if not _FULL_HASH.match(old) or not _FULL_HASH.match(new):
        raise unknown
    _settle(mirror)
    with _only_environment(_environment(Access())):
        import git  # slow, and runs the git that the environment names: so here, inside

        try:
            with git.Repo(mirror, search_parent_directories=False) as repository:
                found = list(repository.iter_commits(f"{old}..{new}", max_count=50))
                return [
                    f"{commit.hexsha[:7]} {str(commit.message).partition(chr(10))[0]}" for commit in found
                ]
        except (git.GitError, ValueError) as error:
            raise unknown from error


def _argv(where: Path, *words: str, access: Access | None = None) -> list[str]:
    """git with every setting named, on exactly this repository (never one found from the working folder)."""
    settings = list(_SETTINGS)
    if access is not None and access.credentials is not None:
        _check_secret(access.credentials)
        settings.append(f"credential.helper=store --file={shlex.quote(str(access.credentials))}")
    return ["git", f"--git-dir={where}", *(word for setting in settings for word in ("-c", setting)), *words]


def _environment(access: Access) -> dict[str, str]:
    """The whole environment of git. Raises ConfigurationInvalid for a key that others can read."""
    ssh = ["ssh", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes"]
    if access.deploy_key is not None:
        _check_secret(access.deploy_key)
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
    return process.environment(extra, passed=access.passed)


def _check_path(path: Path) -> None:
    """Refuse what ssh would expand in a path: ssh_config(5), TOKENS and ENVIRONMENT VARIABLES."""
    if not path.is_absolute() or re.search(r"""[\x00-\x1f"'%$\\]""", str(path)):
        raise ConfigurationInvalid(
            f"{path} is refused", remedy="Use an absolute path without quotes, %, $ or \\."
        )


def _check_secret(path: Path) -> None:
    """Refuse a key or credentials file that is missing, no plain file, or of another mode than 0600."""
    _check_path(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationInvalid(
            f"{path}: {error.strerror}", remedy="Create it, with mode 0600."
        ) from error
    if not stat.S_ISREG(mode) or stat.S_IMODE(mode) != 0o600:
        raise ConfigurationInvalid(
            f"{path} has mode {stat.S_IMODE(mode):04o}", remedy=f"chmod 600 {shlex.quote(str(path))}"
        )


def _upload_pack(url: str) -> list[str]:
    """Trust exactly this local repository of another user; nothing for any other url. See `fetch`."""
    if not url.startswith(("file:///", "/")):
        return []
    path = Path(unquote(url.removeprefix("file://")) if url.startswith("file:") else url)
    trusted = [each for each in (path, path / ".git") if each.exists() and each.stat().st_uid != os.geteuid()]
    if not trusted:
        return []
    words = [word for each in (path, path / ".git") for word in ("-c", f"safe.directory={each}")]
    return ["--upload-pack=" + shlex.join(["git", *words, "upload-pack"])]


def _not_updated(url: str, access: Access, error: process.ProcessFailed) -> MirrorNotUpdated:
    """The error for a failed git, with its own words and the remedy that fits them."""
    remedy = "Check the repository's url, the network, and the deploy key or credentials; then deploy again."
    if "Host key verification failed" in error.output or "HOST IDENTIFICATION HAS CHANGED" in error.output:
        scp = _SCP.match(url)
        parts = urlsplit(url) if scp is None else None
        host = scp.group(1) if scp else str(parts.hostname if parts else "")
        scan = f"ssh-keyscan {f'-p {parts.port} ' if parts and parts.port else ''}{shlex.quote(host)}"
        known = shlex.quote(str(access.known_hosts)) if access.known_hosts else "~/.ssh/known_hosts"
        remedy = (
            f"See the host's fingerprint with `{scan} | ssh-keygen -lf -`, compare it with the one its owner "
            f"publishes, and only when they are the same: `{scan} >> {known}`."
        )
    return MirrorNotUpdated(f"the mirror was not updated: {error}", remedy=remedy, details=error.output)


def _settle(mirror: Path) -> None:
    """Make sure the mirror is ours and its configuration is the known one. Raises MirrorNotUpdated."""
    try:
        found = mirror.lstat()
    except FileNotFoundError:
        raise MirrorNotUpdated(
            f"there is no mirror at {mirror}", remedy="Deploy: it is then cloned."
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise MirrorNotUpdated(
            f"{mirror} is no folder, or belongs to user {found.st_uid} and not to {os.geteuid()}",
            remedy=f"chown -R {os.geteuid()} {shlex.quote(str(mirror))}, or remove it: it is then cloned anew.",
        )
    for name in _PLANTABLE:
        _remove(mirror / name)
    config, attributes = mirror / "config", mirror / "info" / "attributes"
    try:
        is_sha256 = b"objectformat = sha256" in config.read_bytes()  # a lie only makes the mirror look broken
    except OSError:
        is_sha256 = False
    if attributes.parent.is_symlink() or not attributes.parent.is_dir():
        _remove(attributes.parent)
        attributes.parent.mkdir()
    for path, known in ((config, _CONFIG_SHA256 if is_sha256 else _CONFIG), (attributes, _ATTRIBUTES)):
        if path.is_symlink() or not path.is_file() or path.read_bytes() != known.encode():
            _remove(path)
            fresh = path.with_name(path.name + ".fresh")
            _remove(fresh)
            fresh.write_text(known, "utf-8")
            fresh.replace(path)


def _clear_leftovers(mirror: Path) -> None:
    """Remove what a killed git left: its locks block every later fetch (reliability.md, P10).

    No branch can end in .lock, but one may be named tmp_x: so those only go below objects/.
    """
    for folder, folders, files in os.walk(mirror):
        inside = Path(folder)
        in_objects = inside.relative_to(mirror).parts[:1] == ("objects",)
        for name in [*files, *folders]:
            if (name.endswith(".lock") and name in files) or (in_objects and name.startswith("tmp_")):
                _remove(inside / name)


def _remove(path: Path) -> None:
    """Remove a file, link or folder, where there is one; never follows a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_tree(top: Path) -> int:
    """Set the modes, refuse escaping links and Git LFS; return how many files and links there are."""
    count = 0
    top.chmod(0o755)
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            count += not stat.S_ISDIR(mode)
            if stat.S_ISLNK(mode):
                if _leads_out(top, path):
                    raise TreeNotExported(
                        f"the link {path.relative_to(top)} is absolute or leads out of the tree",
                        details=os.readlink(path), remedy="Make it relative and within the repository.",
                    )  # fmt: skip
                continue
            path.chmod(0o755 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o644)
            if name == ".gitattributes" and re.search(rb"(?m)^[^#\n]*\sfilter=lfs\b", path.read_bytes()):
                raise TreeNotExported(
                    f"{path.relative_to(top)} gives files to Git LFS, which is not supported",
                    remedy="Put the files into git itself (git lfs migrate export), or keep them elsewhere.",
                )
    return count


def _leads_out(top: Path, link: Path) -> bool:
    """Follow a link step by step: True when any step is absolute, above the top, or goes round in circles."""
    at = list(link.relative_to(top).parent.parts)
    ahead = list(reversed(os.readlink(link).split("/")))
    if os.readlink(link).startswith("/"):
        return True
    followed = 0
    while ahead:
        step = ahead.pop()
        if step == ".." and not at:
            return True
        if step == "..":
            at.pop()
        elif step not in ("", "."):
            at.append(step)
            here = top.joinpath(*at)
            if here.is_symlink():
                target = os.readlink(here)
                followed += 1
                if target.startswith("/") or followed > 40:  # the kernel's own limit: path_resolution(7)
                    return True
                at.pop()
                ahead += reversed(target.split("/"))
    return False


@contextmanager
def _only_environment(wanted: dict[str, str]) -> Iterator[None]:
    """Give GitPython this environment alone: it hands ours on, and can add to it but take nothing away."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
