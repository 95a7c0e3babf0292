"""What the configuration wants: the repository with its keys, and the Python."""

from __future__ import annotations

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
    return bool(had) and environment.wanted_version(app.python) != had
