"""What the configuration wants: the repository with its keys, and the Python."""

from __future__ import annotations

import os
from pathlib import Path

from bb_release.model.app import App
from bb_release.model.release import Release
from bb_release.tools import environment
from bb_release.tools.git_access import Access


def access_of(app: App) -> Access:
    """Keys, known hosts and credentials of the configuration, as the mirror wants them."""
    return Access(
        deploy_key=app.deploy_key, known_hosts=app.known_hosts, credentials=app.git_credentials,
        allow_file=app.allow_file_url, passed=app.pass_environment,
    )  # fmt: skip


def python_changed(app: App, release: Release) -> bool:
    """Would a build have another Python now (3.12, no longer 3.11) than this release? Then it is built anew."""
    had = ".".join(release.manifest.python.split(".")[:2])
    if not had or ("/" in app.python and _is_made_by(release.venv, app.python)):
        return False
    return environment.wanted_version(app.python) != had


def _is_made_by(venv: Path, python: str) -> bool:
    """Does `python` lead to the very file that this environment was made by, not replaced since? Then none is asked."""
    file = os.path.realpath(python)
    try:  # virtualenv writes the file behind all links as it was then: /usr/bin/python3 may lead elsewhere by now
        not_since = os.stat(file).st_ctime_ns < (venv / "pyvenv.cfg").stat().st_mtime_ns  # noqa: PTH116
    except OSError:
        return False
    return not_since and environment.facts(venv).get("executable") == file
