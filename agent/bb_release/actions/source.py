"""Where the code of a release comes from, and how it gets there."""

from __future__ import annotations

import shlex
import shutil
from math import inf
from pathlib import Path, PurePosixPath

from bb_release.actions.run import Run
from bb_release.actions.wanted import access_of
from bb_release.model.app import App
from bb_release.model.step import Deployment
from bb_release.tools import archive, export, mirror
from bb_release.tools.git_access import Origin


def origin_of(app: App) -> Origin:
    """The repository, and whether what it leads to is fetched too."""
    return Origin(
        url=app.repository, access=access_of(app), submodules=app.layout.submodules if app.submodules else None,
        lfs=app.lfs, fetch_seconds=app.timeouts.fetch or inf,
    )  # fmt: skip


def choose(run: Run, ref: str, archive_file: Path | None) -> tuple[str, str]:
    """What is deployed, as it was typed and as a full hash: of a commit, or of an archive's bytes. Raises ReleaseError.

    An archive is enough by itself: the repository is not asked.
    """
    app = run.app
    if archive_file is not None:
        run.log.say(f"read {archive_file}")
        return archive_file.name, archive.digest(archive_file)
    run.log.say(f"fetch {app.repository}")
    mirror.fetch(
        app.repository, app.layout.mirror, access_of(app), timeout_seconds=app.timeouts.fetch or inf,
        on_line=run.log.line, pass_fds=(run.lock,),
    )  # fmt: skip
    return ref or app.branch, mirror.resolve(app.layout.mirror, ref or app.branch)


def checkout(deployment: Deployment) -> None:
    release, app = deployment.release, deployment.app
    if release.tree.exists():  # a resumed build whose checkout was cut short: half a tree is worth nothing
        shutil.rmtree(release.tree)
    release.tree.mkdir(mode=0o755)
    revision = release.manifest.revision
    if deployment.archive is not None:
        wanted = PurePosixPath(app.subfolder, app.manage)
        archive.unpack(deployment.archive, release.tree, revision=revision, wanted=str(wanted))
    else:
        export.export_tree(
            app.layout.mirror, revision, release.tree, origin=origin_of(app),
            timeout_seconds=app.timeouts.checkout or inf, pass_fds=(deployment.lock,), on_line=deployment.reporter.line,
        )  # fmt: skip
    # flushed with the whole release, before anyone counts on them
    (release.folder / "REVISION").write_text(f"{revision}\n")
    facts = {"BB_RELEASE": release.name, "BB_REVISION": revision, "BB_ROOT": shlex.quote(str(app.root))}
    (release.folder / "release.env").write_text("".join(f"{name}={value}\n" for name, value in facts.items()))
