"""Hashed static files of recent releases stay within reach: pages rendered before a switch ask for them after it.

The pool holds hard links to files with a hash in their name, as `staticfiles.json` has them, and nothing else: whatever
has such a name is the same file in each release. nginx looks there for what the live release does not have.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from pathlib import Path

from bb_release.actions.static_links import collected_by
from bb_release.model import activation
from bb_release.model.layout import Layout
from bb_release.model.step import Deployment

MOST_BYTES = 32 << 20  # of the list; that of 10,900 files has less than 2 MB
LIST = "staticfiles.json"  # django/contrib/staticfiles/storage.py, ManifestFilesMixin.manifest_name
HASHED = re.compile(r"\.[0-9a-f]{8,64}(\.|$)")
WHOLE = "whole"  # empty files, named by the hash of a list: the pool has all that it names
BELOW = "static"  # nginx looks for the whole path of a request: /static/shop/site.0123456789ab.css
KEPT_SECONDS = 7 * 86400.0  # after the last release with that file is gone


def keep_reachable(deployment: Deployment) -> None:
    """Before the link moves: put what the live and the new release have into the pool. A failure is a warning."""
    layout, whole = deployment.layout, b""
    try:
        for release in (activation.current(layout), deployment.release):
            static = collected_by(release)
            if static is not None:
                whole = add(layout, static, whole)
    except OSError as error:  # the switch itself needs none of it
        deployment.reporter.warn(f"pages from before the switch may miss static files: {error}")


def add(layout: Layout, static: Path, whole: bytes = b"") -> bytes:
    """Link the hashed files of one release that the pool does not have yet; returns its list if the pool has all of it.

    That is noted in the pool, so that the next switch looks at the list alone. `whole`: another list of which the pool
    has all. Raises OSError.
    """
    content = read_list(static)
    noted = layout.static_pool / WHOLE / hashlib.sha256(content).hexdigest()
    if content and noted.exists():
        return content
    names, folders, missing = hashed_names(content), set(), False
    for name in names - hashed_names(whole):  # there are thousands: no Path is made of each
        source, target = f"{static}/{name}", f"{layout.static_pool}/{BELOW}/{name}"
        if os.path.lexists(target):
            continue
        if not os.path.lexists(source) or not stat.S_ISREG(os.lstat(source).st_mode):
            missing = True
            continue
        folder = target.rpartition("/")[0]
        if folder not in folders:
            _make_folder(Path(folder), layout.static_pool)
            folders.add(folder)
        os.link(source, target)
    if missing or not names:
        return b""
    _make_folder(noted.parent, layout.static_pool)
    noted.touch()
    return content


def read_list(static: Path) -> bytes:
    """Django's list of collected files, b"" where there is none.

    Raises OSError, also for one that is no file, or too large to be read.
    """
    try:
        facts = (static / LIST).stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MOST_BYTES:  # whatever the site's own code has left there
            raise OSError(errno.EFBIG, f"no file, or more than {MOST_BYTES >> 20} MB", str(static / LIST))
        return (static / LIST).read_bytes()
    except FileNotFoundError:
        return b""


def hashed_names(content: bytes) -> frozenset[str]:
    """What Django's own list names, as far as it has a hash in its name and lies below; nothing in another list."""
    try:
        named = [(str(plain), str(name)) for plain, name in json.loads(content)["paths"].items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return frozenset()
    return frozenset(
        name for plain, name in named
        if name != plain and name.isprintable() and HASHED.search(name.rpartition("/")[2])
        and not {"", ".", ".."} & {*name.split("/")}
    )  # fmt: skip


def _make_folder(folder: Path, top: Path) -> None:
    """With its parents up to `top`; open to the web server, whatever the umask is."""
    if not folder.is_dir():
        if folder != top:
            _make_folder(folder.parent, top)
        folder.mkdir()
        folder.chmod(0o755)


def prune_pool(layout: Layout, now: float | None = None) -> int:
    """Remove what no release has had for a week; how many files that were. Raises OSError.

    A file's status changes when one of its names goes (stat(2), st_ctime): with one name left, that was the last
    release's. What the live release has is safe at any time, since nginx looks there first.
    """
    limit = (time.time() if now is None else now) - KEPT_SECONDS
    top, removed = layout.static_pool / BELOW, 0
    for folder, folders, files in os.walk(top, topdown=False):
        for name in files:
            path = f"{folder}/{name}"
            facts = os.lstat(path)
            if facts.st_nlink == 1 and facts.st_ctime < limit:
                if not removed and (layout.static_pool / WHOLE).is_dir():  # before what they say is not true any more
                    shutil.rmtree(layout.static_pool / WHOLE)
                os.unlink(path)  # noqa: PTH108
                removed += 1
        if (folders or files) and not os.listdir(folder):
            os.rmdir(folder)  # noqa: PTH106
    return removed
