"""How an app reaches its repository."""

from __future__ import annotations

from bb_release.model.app import App
from bb_release.tools.git_access import Access


def access_of(app: App) -> Access:
    """Keys, known hosts and credentials of the configuration, as the mirror wants them."""
    return Access(
        deploy_key=app.deploy_key, known_hosts=app.known_hosts, credentials=app.git_credentials,
        allow_file=app.allow_file_url, passed=app.pass_environment,
    )  # fmt: skip
