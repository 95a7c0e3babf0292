"""The bare copy of the site's repository on this host: checked urls and refs, fetch, resolve.

Nothing that a user, a remote or a former intruder wrote reaches git as an option, as configuration or as a
program to run. The only importer of GitPython. Callers hold the app's lock around `fetch`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bb_release.errors import MirrorNotUpdated, RefNotFound
from bb_release.tools import process
from bb_release.tools.bare import (
    FULL_HASH,
    LOCAL_SECONDS,
    SUSPECT,
    argv,
    clear_leftovers,
    is_as_left,
    note_sound,
    remove,
    settle,
)
from bb_release.tools.git_access import Access, check_ref, check_url, git_environment, secrets_of, upload_pack


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
    Reading the whole history takes seconds where it is long: only a mirror that may have lost something is read.
    What a fetch brings, git itself follows down to what was there before (connected.c; git-fetch has no way around it).
    A local repository of another user is read with safe.directory set to that very path. git 2.39.5 ignores
    `-c safe.directory` for the upload-pack it starts, so it is given inside --upload-pack [tried].
    Raises ConfigurationInvalid, and MirrorNotUpdated, HostKeyUnknown or HostKeyChanged with git's own words.
    """
    check_url(url, allow_file=access.allow_file)
    mask = process.Mask(secrets_of(access))  # a server's answer is shown, and it may repeat what it was sent
    deadline = time.monotonic() + timeout_seconds
    aside, old = (mirror.with_name(mirror.name + end) for end in (".new", ".old"))

    def git(where: Path, *words: str, capture: bool = False) -> str:
        left = max(0.1, deadline - time.monotonic())
        return process.run(
            argv(where, *words, access=access), env=git_environment(access), timeout_seconds=left,
            on_line=lambda line: on_line(mask(line)), capture=capture, pass_fds=pass_fds,
        ).output  # fmt: skip

    def update(where: Path) -> None:
        options = ("--prune", "--force", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        refspecs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        git(where, "fetch", *options, *upload_pack(url), "--", url, *refspecs)

    if not os.path.lexists(mirror) and os.path.lexists(old):
        old.rename(mirror)  # we were ended between the two renames below
    for leftover in (aside, old):
        remove(leftover)
    try:
        if os.path.lexists(mirror):
            settle(mirror)
            clear_leftovers(mirror)
            sound = is_as_left(mirror)
            failed: process.ProcessFailed | None = None
            try:
                update(mirror)
            except process.ProcessFailed as error:
                if error.returncode is None or error.returncode < 0:  # time limit or signal: says nothing
                    raise
                failed = error
            if sound and failed is None:
                note_sound(mirror)
                return
            # not fsck --connectivity-only: it takes what an index names for there, be its pack cut short [tried]
            check = ["rev-list", "--objects", "--all", "--quiet"]
            if (mirror / SUSPECT).exists():  # content that went bad is seen when it is read, which takes longer
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
                note_sound(mirror)
                return
        mirror.parent.mkdir(parents=True, exist_ok=True)
        listed = git(Path("/dev/null"), "ls-remote", *upload_pack(url), "--", url, capture=True)
        kind = "sha256" if re.match(r"[0-9a-f]{64}\t", listed) else "sha1"
        git(aside, "init", "--quiet", "--bare", "--template=", f"--object-format={kind}", "--", str(aside))
        settle(aside)
        update(aside)
        note_sound(aside)
    except process.ProcessFailed as error:
        from bb_release.tools.git_failure import not_updated

        raise not_updated(url, access, error) from error
    if os.path.lexists(mirror):
        mirror.rename(old)
    aside.rename(mirror)
    folder = os.open(mirror.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # a rename is durable once its folder is synced
    finally:
        os.close(folder)
    remove(old)


def has_whole_commit(mirror: Path, revision: str) -> bool:
    """Is the commit there, with all files of its tree? False too where there is no sound mirror, or git is too slow."""
    if not FULL_HASH.match(revision) or not os.path.lexists(mirror):
        return False
    settle(mirror)
    words = ("rev-list", "--objects", "--no-walk", "--quiet", revision)
    env = git_environment(Access())
    try:
        return process.run(argv(mirror, *words), env=env, timeout_seconds=LOCAL_SECONDS, check=False).returncode == 0
    except process.ProcessFailed:  # not in time: who fetches will know
        return False


def fetch_commit(
    url: str, mirror: Path, revision: str, access: Access, *, timeout_seconds: float, pass_fds: Sequence[int] = ()
) -> None:
    """Ask the remote for one commit by its hash, and keep it. Raises ProcessFailed when it does not give it."""
    options = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", *upload_pack(url))
    words = argv(mirror, "fetch", *options, "--", url, f"+{revision}:refs/pinned/{revision}", access=access)
    process.run(words, env=git_environment(access), timeout_seconds=timeout_seconds, pass_fds=pass_fds)


def resolve(mirror: Path, ref: str) -> str:
    """The full hash of the commit that a branch, a tag (peeled), or a commit's hash or its prefix names.

    A full hash is always itself, as in git; else a branch wins over a tag, and both over a prefix.
    Raises RefInvalid, RefNotFound (also for a prefix of several commits), MirrorNotUpdated without a mirror.
    """
    check_ref(ref)
    settle(mirror)
    names = [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    if re.fullmatch(r"[0-9a-fA-F]{4,64}", ref):
        names.insert(0 if FULL_HASH.match(ref.lower()) else 2, ref)
    for name in names:
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
        try:
            done = process.run(
                argv(mirror, *words),
                env=git_environment(Access()),
                timeout_seconds=LOCAL_SECONDS,
                capture=True,
                check=False,
            )
        except process.ProcessFailed as error:
            raise MirrorNotUpdated(
                f"git could not be asked for {ref}: it {error.reason}", remedy="Run the command again."
            ) from error
        found = done.output.strip()
        # a file in the mirror named like a prefix would be read as a ref: so the hash must start with it
        if done.returncode == 0 and FULL_HASH.match(found) and (name != ref or found.startswith(ref.lower())):
            return found
    if re.fullmatch(r"\d{4}(-\d\d){5}", ref):
        raise RefNotFound(f"no branch, tag or commit {ref!r}", remedy=f"That is a release: bb-release switch {ref}")
    raise RefNotFound(f"no branch, tag or commit {ref!r}", remedy="Push it, or check the name with `git ls-remote`.")


def remote_revision(url: str, ref: str, access: Access, *, timeout_seconds: float) -> str | None:
    """The hash a branch or tag (peeled) has at the remote now, without fetching; None when absent.

    A hash gives None: remotes list names only. Raises RefInvalid, ConfigurationInvalid, and what `fetch` raises.
    """
    check_ref(ref)
    check_url(url, allow_file=access.allow_file)
    wanted = [f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]
    words = argv(Path("/dev/null"), "ls-remote", *upload_pack(url), "--", url, *wanted, access=access)
    try:
        done = process.run(words, env=git_environment(access), timeout_seconds=timeout_seconds, capture=True)
    except process.ProcessFailed as error:
        from bb_release.tools.git_failure import not_updated

        raise not_updated(url, access, error) from error
    listed = read_listed(done.output)
    return next((listed[name] for name in wanted if name in listed), None)


def read_listed(said: str) -> dict[str, str]:
    """Names to hashes, as `git ls-remote` lists what a remote says; a line without a whole hash says nothing."""
    pairs = (line.partition("\t") for line in said.split("\n"))
    return {name: found for found, _, name in pairs if name and FULL_HASH.match(found)}


def commits_between(mirror: Path, old: str, new: str) -> list[str]:
    """At most 50 lines "abc1234 subject", newest first, for what `new` has and `old` lacks; full hashes only.

    Raises RefNotFound when the mirror lacks one of them, MirrorNotUpdated without a mirror.
    """
    unknown = RefNotFound(f"no commits {old[:64]!r} and {new[:64]!r}", remedy="Fetch; the old one may be gone.")
    if not FULL_HASH.match(old) or not FULL_HASH.match(new):
        raise unknown
    settle(mirror)
    with _only_environment(git_environment(Access())):
        import git  # slow, and runs the git that the environment names: so here, inside

        try:
            with git.Repo(mirror, search_parent_directories=False) as repository:
                found = list(repository.iter_commits(f"{old}..{new}", max_count=50))
                return [f"{commit.hexsha[:7]} {str(commit.message).partition(chr(10))[0]}" for commit in found]
        except (git.GitError, ValueError) as error:
            raise unknown from error


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
