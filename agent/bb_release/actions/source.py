"""Where the code of a release comes from, and how it gets there."""

from __future__ import annotations

import shutil

from bb_release.model import durable
from bb_release.model.app import App
from bb_release.model.step import Deployment
from bb_release.tools import export
from bb_release.tools.git_access import Access, Origin


def access_of(app: App) -> Access:
    """Keys, known hosts and credentials of the configuration, as the mirror wants them."""
    return Access(
        deploy_key=app.deploy_key, known_hosts=app.known_hosts, credentials=app.git_credentials,
        allow_file=app.allow_file_url, passed=app.pass_environment,
    )  # fmt: skip


def origin_of(app: App) -> Origin:
    """The repository, and whether what it leads to is fetched too."""
    return Origin(
        url=app.repository, access=access_of(app), submodules=app.layout.submodules if app.submodules else None,
        lfs=app.lfs, fetch_seconds=app.timeouts.fetch,
    )  # fmt: skip


def checkout(deployment: Deployment) -> None:
    release, app = deployment.release, deployment.app
    if release.tree.exists():  # a resumed build whose checkout was cut short: half a tree is worth nothing
        shutil.rmtree(release.tree)
    release.tree.mkdir(mode=0o755)
    release.tree.chmod(0o755)
    export.export_tree(
        app.layout.mirror, release.manifest.revision, release.tree, origin=origin_of(app),
        timeout_seconds=app.timeouts.checkout, pass_fds=(deployment.lock,), on_line=deployment.reporter.line,
    )  # fmt: skip
    durable.put(release.folder / "REVISION", f"{release.manifest.revision}\n".encode(), mode=0o644)
    names = f"BB_RELEASE={release.name}\nBB_REVISION={release.manifest.revision}\n"
    durable.put(release.folder / "release.env", names.encode(), mode=0o644)
