"""The step that installs what the revision needs: from a package set, or into one."""

from __future__ import annotations

from dataclasses import replace

from bb_release.actions import package_sets
from bb_release.actions.site_commands import run_commands
from bb_release.model.step import Deployment
from bb_release.tools import environment, installers, requirements, resolution
from bb_release.tools.installers import Installer
from bb_release.tools.requirements.pins import Plan


def install_requirements(deployment: Deployment) -> None:
    """Find what the revision needs, install it, and note versions in the manifest."""
    app, release = deployment.app, deployment.release
    run_commands(deployment, "before-requirements")
    env, seconds = deployment.build_environment, app.timeouts.requirements or None
    written = release.folder / "requirements"
    plan = requirements.plan(
        tree=release.tree, subfolder=app.subfolder, names=app.requirements, groups=app.groups, extras=app.extras,
        python=release.python, folder=written, cache=app.cache_folder, env=env,
        timeout_seconds=seconds, on_line=deployment.reporter.line, pass_fds=(deployment.lock,),
    )  # fmt: skip
    deployment.reporter.line(f"requirements: {plan.shown}")
    installer = installers.Installer(
        app.installer, release.venv, cwd=release.tree / app.subfolder, cache=app.cache_folder, env=env,
        index_url=app.index_url, timeout_seconds=seconds, on_line=deployment.reporter.line,
        pass_fds=(deployment.lock,),
    )  # fmt: skip
    live = None if deployment.newest else deployment.previous
    plan = resolution.resolve(installer, plan, written, before=live.folder / "requirements" if live else None)
    package_set = install(deployment, installer, plan)
    installer.require_django(plan)
    deployment.release = release.mark(
        packages=environment.packages(release.venv), python=environment.python_version(release.venv),
        package_set=package_set,
    )  # fmt: skip


def install(deployment: Deployment, installer: Installer, plan: Plan) -> str:
    """Packages whose pins decide all of them come from a package set, or become one; the others are installed after.

    Returns the set's name, "" for none.
    """
    fixed = replace(plan, batches=tuple(batch for batch in plan.batches if batch.fixed))
    others = replace(plan, batches=tuple(batch for batch in plan.batches if not batch.fixed))
    choice = package_sets.choose(installer, fixed)
    if choice is None:
        others = plan
    elif not package_sets.take(deployment, choice.name):
        linked = package_sets.take_part(deployment, choice)
        package_sets.require_room(deployment, choice, linked)
        odd = installer.install(fixed, shared=True, thorough=True, but=linked)
        if odd:  # installed a second time without the cache, so that it is the index that has them so
            deployment.reporter.say(f"other files than their packages recorded: {', '.join(odd)}")
        if not package_sets.keep(deployment, choice):
            choice = None
    if others.batches:
        installer.install(others)
    return choice.name if choice else ""
