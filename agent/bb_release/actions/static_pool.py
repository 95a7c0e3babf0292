"""Hashed static files of recent releases stay within reach: pages rendered before a switch ask for them after it.

The pool holds hard links to files with a hash in their name, as `staticfiles.json` has them, and nothing else: whatever
has such a name is the same file in each release. nginx looks there for what the live release does not have.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bb_release.actions.static_links import collected_by
from bb_release.model import activation
from bb_release.model.layout import Layout
from bb_release.model.step import Deployment

MOST_BYTES = 32 << 20  # of the list; that of 10,900 files has less than 2 MB
LIST = "staticfiles.json"  # django/contrib/staticfiles/storage.py, ManifestFilesMixin.manifest_name
HASHED = re.compile(r"\.[0-9a-f]{8,64}(\.|$)")
BELOW = "static"  # nginx looks for the whole path of a request: /static/shop/site.0123456789ab.css
KEPT_SECONDS = 7 * 86400.0  # after the last release with that file is gone


def keep_reachable(deployment: Deployment) -> None:
    """Before the link moves: put what the live and the new release have into the pool. A failure is a warning."""
    layout = deployment.layout
    try:
        for release in (activation.current(layout), deployment.release):
            static = collected_by(release)
            if static is not None:
                add(layout, static)
    except OSError as error:  # the switch itself needs none of it
        deployment.reporter.warn(f"pages from before the switch may miss static files: {error}")


def add(layout: Layout, static: Path) -> None:
    """Link the hashed files of one release that the pool does not have yet. Raises OSError."""
    for name in hashed_names(static):
        source, target = static / name, layout.static_pool / BELOW / name
        if not target.exists() and source.exists() and stat.S_ISREG(source.lstat().st_mode):
            _make_folder(target.parent, layout.static_pool)
            os.link(source, target)


def hashed_names(static: Path) -> Iterator[str]:
    """What Django's own list names, as far as it has a hash in its name and lies below; nothing without a list.

    Raises OSError, also for one that is no file, or too large to be read.
    """
    try:
        facts = (static / LIST).stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MOST_BYTES:  # whatever the site's own code has left there
            raise OSError(errno.EFBIG, f"no file, or more than {MOST_BYTES >> 20} MB", str(static / LIST))
        paths = json.loads((static / LIST).read_bytes())["paths"]
        named = [(str(plain), PurePosixPath(str(hashed))) for plain, hashed in paths.items()]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    for plain, path in named:
        if str(path) != plain and HASHED.search(path.name) and not path.is_absolute() and ".." not in path.parts:
            yield str(path)


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
    removed = 0
    for folder, folders, files in os.walk(layout.static_pool, topdown=False):
        for name in files:
            path = Path(folder) / name
            facts = path.lstat()
            if facts.st_nlink == 1 and facts.st_ctime < limit:
                path.unlink()
                removed += 1
        if (folders or files) and not os.listdir(folder) and folder != str(layout.static_pool):
            Path(folder).rmdir()
    return removed
