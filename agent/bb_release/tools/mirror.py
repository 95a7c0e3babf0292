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
from contextlib import contextmanager, suppress
from pathlib import Path

from bb_release.errors import MirrorNotUpdated, RefNotFound, TreeNotExported
from bb_release.tools import process
from bb_release.tools.git_access import (
    Access,
    check_ref,
    check_secret,
    check_url,
    git_environment,
    not_updated,
    upload_pack,
)
from bb_release.tools.tree import check_tree

_FULL_HASH = re.compile(r"\A([0-9a-f]{40}|[0-9a-f]{64})\Z")
_LOCAL_SECONDS = 120.0
SCRATCH = ".index-"  # beside what is exported, not in /tmp: a killed run's leftovers then go with the release
# core.fsync: by default git syncs nothing of a small fetch (reliability.md, P11); hooksPath, fsmonitor: code
_SETTINGS = (
    "core.fsync=all", "transfer.unpackLimit=1", "gc.auto=0", "maintenance.auto=false",
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null",
    "transfer.fsckObjects=true", "credential.helper=",
)  # fmt: skip
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_CONFIG_SHA256 = _CONFIG.replace("= 0", "= 1") + "[extensions]\n\tobjectformat = sha256\n"
# wins over every .gitattributes in the tree (gitattributes(5)), so that files leave git byte for byte
_ATTRIBUTES = "* -text !eol !crlf -ident !filter !working-tree-encoding\n"
_SUSPECT = "bb-release-suspect"  # an empty file: the next fetch reads every object
# each can point git elsewhere, hide missing objects, or run code: gitrepository-layout(5)
_PLANTABLE = (
    "commondir", "config.worktree", "objects/info/alternates", "objects/info/http-alternates", "info/grafts",
    "shallow", "remotes", "branches", "hooks",
)  # fmt: skip


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
            _argv(where, *words, access=access), env=git_environment(access), timeout_seconds=left,
            on_line=on_line, capture=capture, pass_fds=pass_fds,
        ).output  # fmt: skip

    def update(where: Path) -> None:
        options = ("--prune", "--force", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        refspecs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        git(where, "fetch", *options, *upload_pack(url), "--", url, *refspecs)

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
            # not fsck --connectivity-only: it takes what an index names for there, be its pack cut short [tried]
            check = ["rev-list", "--objects", "--all", "--quiet"]
            if (mirror / _SUSPECT).exists():  # content that went bad is seen when it is read, which takes longer
                check = ["fsck", "--full", "--no-dangling", "--no-progress"]
            try:
                git(mirror, *check)
            except process.ProcessFailed as error:
                if error.returncode is None or error.returncode < 0:
                    raise
                on_line("the mirror is broken; it is cloned anew")
            else:
                if failed is not None:  # the mirror is sound, so the remote or the way to it is not
                    raise failed
                _remove(mirror / _SUSPECT)
                return
        mirror.parent.mkdir(parents=True, exist_ok=True)
        listed = git(Path("/dev/null"), "ls-remote", *upload_pack(url), "--", url, capture=True)
        kind = "sha256" if re.match(r"[0-9a-f]{64}\t", listed) else "sha1"
        git(aside, "init", "--quiet", "--bare", "--template=", f"--object-format={kind}", "--", str(aside))
        _settle(aside)
        update(aside)
    except process.ProcessFailed as error:
        raise not_updated(url, access, error) from error
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
            env=git_environment(Access()),
            timeout_seconds=_LOCAL_SECONDS,
            capture=True,
            check=False,
        )
        found = done.output.strip()
        # a file in the mirror named like a prefix would be read as a ref: so the hash must start with it
        if done.returncode == 0 and _FULL_HASH.match(found) and (name != ref or found.startswith(ref.lower())):
            return found
    raise RefNotFound(f"no branch, tag or commit {ref!r}", remedy="Push it, or check the name with `git ls-remote`.")


def remote_revision(url: str, ref: str, access: Access, *, timeout_seconds: float) -> str | None:
    """The hash a branch or tag (peeled) has at the remote now, without fetching; None when absent.

    A hash gives None: remotes list names only. Raises RefInvalid, ConfigurationInvalid, MirrorNotUpdated.
    """
    check_ref(ref)
    check_url(url, allow_file=access.allow_file)
    wanted = [f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]
    argv = _argv(Path("/dev/null"), "ls-remote", *upload_pack(url), "--", url, *wanted, access=access)
    try:
        done = process.run(argv, env=git_environment(access), timeout_seconds=timeout_seconds, capture=True)
    except process.ProcessFailed as error:
        raise not_updated(url, access, error) from error
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
    """Write the exact tree of a full hash into an empty folder: no filter, export-ignore or new line ends.

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
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=into.parent) as scratch:
        environment = git_environment(Access()) | {"GIT_INDEX_FILE": f"{scratch}/index"}

        def git(*words: str, capture: bool = False) -> str:
            return process.run(
                [*_argv(mirror, f"--work-tree={into}"), *words], cwd=into, env=environment, on_line=on_line,
                timeout_seconds=max(0.1, deadline - time.monotonic()), capture=capture, pass_fds=pass_fds,
            ).output  # fmt: skip

        try:
            entries = [e for e in git("ls-tree", "-r", "-z", "--full-tree", revision, capture=True).split("\0") if e]
            modules = [entry.partition("\t")[2] for entry in entries if entry.startswith("160000 ")]
            if modules:
                raise TreeNotExported(
                    "the repository has submodules, which are not supported", details="\n".join(modules),
                    remedy="Put their files into the repository (git subtree), or require them as packages.",
                )  # fmt: skip
            git("read-tree", revision)
            git("checkout-index", "--all", "--force", "--quiet")
        except process.ProcessFailed as error:
            with suppress(OSError):  # on a full disk it is the disk that is at fault
                (mirror / _SUSPECT).touch()
            raise TreeNotExported(
                f"the tree of {revision} could not be written: {error}", details=error.output,
                remedy="Deploy again: a broken mirror is cloned anew. Check the free space if it stays so.",
            ) from error  # fmt: skip
    if check_tree(into) != len(entries):
        raise TreeNotExported(f"the tree of {revision} is not complete", remedy="Deploy again.")


def commits_between(mirror: Path, old: str, new: str) -> list[str]:
    """At most 50 lines "abc1234 subject", newest first, for what `new` has and `old` lacks; full hashes only.

    Raises RefNotFound when the mirror lacks one of them, MirrorNotUpdated without a mirror.
    """
    unknown = RefNotFound(f"no commits {old[:64]!r} and {new[:64]!r}", remedy="Fetch; the old one may be gone.")
    if not _FULL_HASH.match(old) or not _FULL_HASH.match(new):
        raise unknown
    _settle(mirror)
    with _only_environment(git_environment(Access())):
        import git  # slow, and runs the git that the environment names: so here, inside

        try:
            with git.Repo(mirror, search_parent_directories=False) as repository:
                found = list(repository.iter_commits(f"{old}..{new}", max_count=50))
                return [f"{commit.hexsha[:7]} {str(commit.message).partition(chr(10))[0]}" for commit in found]
        except (git.GitError, ValueError) as error:
            raise unknown from error


def _argv(where: Path, *words: str, access: Access | None = None) -> list[str]:
    """git with every setting named, on exactly this repository (never one found from the working folder)."""
    settings = list(_SETTINGS)
    if access is not None and access.credentials is not None:
        check_secret(access.credentials)
        settings.append(f"credential.helper=store --file={shlex.quote(str(access.credentials))}")
    return ["git", f"--git-dir={where}", *(word for setting in settings for word in ("-c", setting)), *words]


def _settle(mirror: Path) -> None:
    """Make sure the mirror is ours and its configuration is the known one. Raises MirrorNotUpdated."""
    try:
        found = mirror.lstat()
    except FileNotFoundError:
        raise MirrorNotUpdated(f"there is no mirror at {mirror}", remedy="Deploy: it is then cloned.") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise MirrorNotUpdated(
            f"{mirror} is no folder, or belongs to user {found.st_uid} and not to {os.geteuid()}",
            remedy=f"chown -R {os.geteuid()} {shlex.quote(str(mirror))}, or remove it: it is cloned anew.",
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
