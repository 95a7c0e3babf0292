"""What a repository says of itself before there is a mirror of it."""

from __future__ import annotations

import re
from pathlib import Path

from bb_release.errors import MirrorNotUpdated, RefInvalid, RefNotFound, UsageInvalid
from bb_release.tools import process
from bb_release.tools.git_access import Access, check_ref, check_url, git_environment, upload_pack


def default_branch(url: str, access: Access, *, timeout_seconds: float) -> str:
    """The branch that the remote's HEAD names; asked of a remote that was fetched from just before.

    Raises ConfigurationInvalid, MirrorNotUpdated, RefNotFound for an empty repository or a detached HEAD.
    """
    check_url(url, allow_file=access.allow_file)
    argv = ["git", "--git-dir=/dev/null", "-c", "credential.helper="]
    argv += ["ls-remote", "--symref", *upload_pack(url), "--", url, "HEAD"]
    try:
        said = process.run(argv, env=git_environment(access), timeout_seconds=timeout_seconds, capture=True).output
    except process.ProcessFailed as error:
        raise MirrorNotUpdated(
            f"the repository could not be asked for its branch: {error}",
            details=error.output,
            remedy="name it: bb-release init --branch main",
        ) from error
    branch = read_branch(said)
    if not branch:
        raise RefNotFound("the repository names no branch of its own: it is empty, or its HEAD is detached",
                          remedy="push something, or name the branch: bb-release init --branch main")  # fmt: skip
    return branch


def read_branch(said: str) -> str:
    """The branch that HEAD names, as `git ls-remote --symref` tells it; "" where it names none that we would take."""
    found = re.search(r"(?m)^ref: refs/heads/(\S+)\tHEAD$", said)
    try:
        check_ref(found[1] if found else "")
    except RefInvalid:
        return ""
    return found[1] if found else ""


def origin_of(folder: Path) -> str:
    """The url of `origin` of the repository that the folder lies in. Raises UsageInvalid when there is none."""
    argv = ["git", "-C", str(folder), "config", "--get", "remote.origin.url"]
    try:
        said = process.run(argv, env=git_environment(Access()), timeout_seconds=20.0, capture=True).output
    except process.ProcessFailed as error:
        raise UsageInvalid(
            f"{folder} lies in no git repository with an origin",
            details=error.output,
            remedy="name the repository: bb-release init git@git.example.org:shop/shop.git",
        ) from error
    return said.strip()
