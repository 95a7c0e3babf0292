"""The step that installs what the revision needs, and whether the Python it was installed for is still the one."""

from __future__ import annotations

from bb_release.actions.site_commands import run_commands
from bb_release.model.step import Deployment
from bb_release.tools import environment, installers, requirements


def install_requirements(deployment: Deployment) -> None:
    """Find what the revision needs, install it, and note versions in the manifest."""
    app, release = deployment.app, deployment.release
    run_commands(deployment, "before-requirements")
    env, seconds = deployment.build_environment, app.timeouts.requirements or None
    plan = requirements.plan(
        tree=release.tree, subfolder=app.subfolder, names=app.requirements, groups=app.groups, extras=app.extras,
        python=release.python, folder=release.folder / "requirements", cache=app.cache_folder, env=env,
        timeout_seconds=seconds, on_line=deployment.reporter.line, pass_fds=(deployment.lock,),
    )  # fmt: skip
    deployment.reporter.line(f"requirements: {plan.shown}")
    installers.install(
        release.venv, plan, installer=app.installer, cwd=release.tree / app.subfolder, cache=app.cache_folder,
        env=env, index_url=app.index_url, timeout_seconds=seconds,
        on_line=deployment.reporter.line, pass_fds=(deployment.lock,),
    )  # fmt: skip
    deployment.release = release.mark(
        packages=environment.packages(release.venv), python=environment.python_version(release.venv)
    )
