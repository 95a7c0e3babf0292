"""Submodules: what a revision says of them, and each one's own bare mirror with the pinned commit in it."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bb_release.errors import ConfigurationInvalid, TreeNotExported
from bb_release.tools import mirror, process
from bb_release.tools.bare import LOCAL_SECONDS, argv
from bb_release.tools.git_access import Access, Origin, check_url, git_environment

MOST_DEEP = 10  # a submodule of a submodule of …: far more than anyone nests, and an end where two pin each other
MOST = 200  # each costs a mirror and a fetch

_PLACE = re.compile(r"\A([a-z]+://[^/]*|[^/:]+:|)(/?)(.*)\Z", re.DOTALL)


def urls(repository: Path, revision: str, base: str) -> dict[str, str]:
    """Path to url for all that `.gitmodules` of this very revision names; relative urls are resolved against `base`.

    Raises TreeNotExported when it cannot be read, or names an url that climbs above its host.
    """
    words = ("config", f"--blob={revision}:.gitmodules", "--no-includes", "-z", "--list")
    try:
        said = process.run(
            argv(repository, *words), env=git_environment(Access()), timeout_seconds=LOCAL_SECONDS, capture=True
        ).output
    except process.ProcessFailed as error:
        raise TreeNotExported(
            f"the tree of {revision} has submodules, and no .gitmodules that can be read", details=error.output,
            remedy="Add the submodules with `git submodule add`, or remove them with `git rm`, and push.",
        ) from error  # fmt: skip
    return read_urls(said, base)


def read_urls(said: str, base: str) -> dict[str, str]:
    """Path to url in what `git config -z --list` says of a .gitmodules. Raises TreeNotExported."""
    named: dict[str, dict[str, str]] = {}
    for line in said.split("\0"):
        key, _, value = line.partition("\n")
        section, _, rest = key.partition(".")
        name, _, what = rest.rpartition(".")
        if section == "submodule" and what in ("path", "url"):
            named.setdefault(name, {})[what] = value
    return {
        facts["path"].rstrip("/"): absolute_url(base, facts["url"])
        for facts in named.values()
        if {"path", "url"} == set(facts)
    }


def absolute_url(base: str, url: str) -> str:
    """A url that begins with ./ or ../ is relative to its repository's own: gitmodules(5). Raises TreeNotExported."""
    if not url.startswith(("./", "../")):
        return url
    place = _PLACE.match(base)
    prefix, slash, path = place.groups() if place else ("", "", "")
    parts = [part for part in path.split("/") if part]
    for part in url.split("/"):
        if part == ".." and not parts:
            raise TreeNotExported(
                f"the submodule url {url!r} climbs above {base}", remedy="Correct it in .gitmodules, and push."
            )
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return prefix + slash + "/".join(parts)


def bring(
    origin: Origin, path: str, url: str, pinned: str, *,
    on_line: Callable[[str], None] | None, pass_fds: Sequence[int] = (),
) -> Path:  # fmt: skip
    """The mirror of one submodule, with the pinned commit and all its files in it; fetched only when they are not.

    Raises TreeNotExported when the url is refused or the remote does not have the commit, and what
    `mirror.fetch` raises.
    """
    try:
        check_url(url, allow_file=origin.access.allow_file)
    except ConfigurationInvalid as error:
        raise TreeNotExported(f"submodule {path}: {error.message}", remedy="Correct .gitmodules, and push.") from error
    if origin.submodules is None:
        raise TreeNotExported(f"submodule {path}: there is no folder for mirrors", remedy="Set submodules = true.")
    place = origin.submodules / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.git"
    tell = on_line or (lambda line: None)
    if mirror.has_whole_commit(place, pinned):
        return place
    tell(f"fetch submodule {path} from {url}")
    deadline = time.monotonic() + origin.fetch_seconds
    mirror.fetch(url, place, origin.access, timeout_seconds=origin.fetch_seconds, on_line=tell, pass_fds=pass_fds)
    if mirror.has_whole_commit(place, pinned):
        return place
    try:  # no branch or tag leads to it; most hosts give it to those who ask for it by its hash
        left = max(1.0, deadline - time.monotonic())
        mirror.fetch_commit(url, place, pinned, origin.access, timeout_seconds=left, pass_fds=pass_fds)
    except process.ProcessFailed as error:
        raise TreeNotExported(
            f"submodule {path} is pinned to {pinned}, which {url} does not have", details=error.output,
            remedy="Push that commit to the submodule's repository, or pin one that is there, and push.",
        ) from error  # fmt: skip
    return place
