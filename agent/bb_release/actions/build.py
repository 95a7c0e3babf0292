"""The bodies of the steps that build a release: each changes nothing but the release's own folder."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bb_release.actions import answers, installer_cache
from bb_release.actions.site_commands import last_lines
from bb_release.errors import (
    ApplicationNotImportable,
    DjangoCheckFailed,
    RehearsalFailed,
    SharedMissing,
)
from bb_release.model.app import App
from bb_release.model.manifest import State
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from bb_release.tools import django, environment, filesystem, host
from bb_release.tools.process import ProcessFailed
from bb_release.tools.signals import undisturbed

WARNING = re.compile(r"\((\w+\.)+W\d+\)")  # (security.W004), as django.core.checks prints it


def project_of(deployment: Deployment) -> django.Project:
    """The Django project of the release, with the site's environment."""
    return django.Project(
        python=deployment.release.python,
        folder=deployment.release.tree / deployment.app.subfolder,
        manage=deployment.app.manage,
        env=deployment.site_environment,
        pass_fds=(deployment.lock,),
        on_line=deployment.reporter.line,
        stage=deployment.app.stage,
    )


def create_environment(deployment: Deployment) -> None:
    app = deployment.app
    installer_cache.open_cache(app, deployment.reporter)
    venv = deployment.release.venv
    if venv.is_dir() and not venv.is_symlink():  # what a killed run left of it: only a resumed build finds anything
        shutil.rmtree(venv)
    environment.create(
        venv, python=app.python, cache=app.cache_folder, copies=app.copies,
        seed_pip=app.installer == "pip", timeout_seconds=app.timeouts.environment, on_line=deployment.reporter.line,
    )  # fmt: skip


def missing_shared(app: App) -> list[Path]:
    files = [app.layout.shared / name for name in app.shared_files]
    folders = [app.layout.shared / name for name in app.shared_folders]
    return [p for p in files if not p.is_file()] + [p for p in folders if not p.is_dir()]


def require_shared(deployment: Deployment) -> None:
    """A shared file that is not there is an error before anything is built."""
    missing = missing_shared(deployment.app)
    if missing:
        raise SharedMissing(
            f"{len(missing)} shared file(s) or folder(s) of the configuration are not there",
            details="\n".join(str(path) for path in missing),
            remedy="put them there (bb-release check prints the commands), then run: bb-release deploy",
        )


def link_shared(deployment: Deployment) -> None:
    """Lead names of the tree to what outlives releases; what the tree has under such a name is moved aside."""
    app, project = deployment.app, deployment.release.tree / deployment.app.subfolder
    require_shared(deployment)
    for name in (*app.shared_files, *app.shared_folders):
        link = project / name
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise SharedMissing(
                f"{name} cannot be linked: the repository has a file where its folder should be",
                remedy="correct shared_files or shared_folders, or the repository, then run: bb-release deploy",
            ) from error
        if not link.parent.resolve().is_relative_to(deployment.release.tree.resolve()):
            raise SharedMissing(
                f"{name} would be linked outside of the release",
                remedy="the repository has a link in that path",
            )
        if link.is_symlink():
            link.unlink()
        elif link.is_dir():
            aside = deployment.release.folder / "replaced-by-shared" / name
            aside.parent.mkdir(parents=True, exist_ok=True)
            link.rename(aside)
        elif link.exists():
            link.unlink()
        # from where the link is made: the tree may have led there by a link of its own
        target = app.layout.root.resolve() / app.layout.shared.name / name
        link.symlink_to(os.path.relpath(target, link.parent.resolve()))


def check_django(deployment: Deployment) -> None:
    project, app = project_of(deployment), deployment.app
    words = django.CHECK_DEPLOY if app.check_deploy else django.CHECK
    warnings: list[str] = []

    def listen(line: str) -> None:
        deployment.reporter.line(line)
        if WARNING.search(line):  # it is kept in the manifest, and told: with what the site put into it
            warnings.append(deployment.reporter.mask(line.removeprefix("?: ").strip()))

    try:
        django.manage(replace(project, on_line=listen), *words, timeout_seconds=app.timeouts.check)
    except ProcessFailed as error:
        raise DjangoCheckFailed(
            f"manage.py {' '.join(words)} {error.reason}",
            details=last_lines(error.output),
            remedy="correct what it names and push, then run: bb-release deploy",
        ) from error
    try:
        facts = django.ask(
            project, "facts", django.answer_in_memory(), is_answer=answers.KINDS["facts"],
            timeout_seconds=app.timeouts.check, application=app.application, static=app.collect_static,
        )  # fmt: skip
    except ProcessFailed as error:
        raise ApplicationNotImportable(
            "the WSGI or ASGI application of the new release cannot be imported"
            if error.returncode != 0
            else f"the new release {error.reason} when it was asked what it is",
            details=last_lines(error.output),
            remedy="correct it and push, then run: bb-release deploy (application = names it if it is elsewhere)",
        ) from error
    known_facts = {name: facts[name] for name in answers.FACTS_KEPT if name in facts}
    deployment.release = deployment.release.mark(facts={**known_facts, "warnings": warnings})
    known = deployment.previous.manifest.facts.get("warnings", []) if deployment.previous else []
    for warning in warnings:
        if warning not in known:  # each is told by the deploy that brought it, not by all that follow
            deployment.reporter.warn(f"manage.py check: {warning}")


def finish_build(deployment: Deployment) -> None:
    """Make the whole tree durable, then let the manifest say so: in this order, it is the only proof there is."""
    folder = deployment.release.folder
    with ThreadPoolExecutor(1) as beside:  # the disk works meanwhile
        with undisturbed():
            size = beside.submit(filesystem.tree_size, folder)
        host.sync_tree(folder, deployment.app.cache_folder)
    installer_cache.close_cache(deployment.app)
    deployment.release = deployment.release.mark(State.READY, size=[*size.result()])


def resumed(release: Release) -> Release:
    """A failed release that is built on; from its first step if the host went down since, and took what it would."""
    boot = host.boot_id()
    steps = dict(release.manifest.steps)
    steps.pop("plan-migrations", None)  # the database may be another one by now
    if release.state is State.READY:
        return release.mark(failure={}, steps=steps)
    if release.manifest.boot != boot:
        steps = {}
    return release.mark(State.BUILDING, failure={}, steps=steps, boot=boot)


def rehearse(deployment: Deployment) -> None:
    """The new code answers the health request inside its own environment, before anyone else sees it."""
    wanted = deployment.app.health
    if wanted is None or not deployment.app.rehearse:
        return
    scheme, path, host_name = request_of(wanted.url)
    headers = {"host": host_name, **{k.lower(): v for k, v in wanted.headers}}
    if headers.get("x-forwarded-proto") == "https":
        scheme = "https"
    remedy = "correct it and push, then run: bb-release deploy; rehearse = false skips this step"
    try:
        answer = django.ask(
            project_of(deployment), "rehearse", django.answer_in_memory(), is_answer=answers.KINDS["rehearse"],
            timeout_seconds=deployment.app.timeouts.rehearse,
            application=deployment.app.application, path=path, headers=headers, scheme=scheme,
        )  # fmt: skip
    except ProcessFailed as error:
        raise RehearsalFailed(
            f"the new release's health view {error.reason}" if error.returncode != 1 else
            "the new release's health view raised an exception",
            details=last_lines(error.output), remedy=remedy,
        ) from error  # fmt: skip
    if answer["status"] != wanted.expect or wanted.body not in answer["body"]:
        location = next((v for k, v in answer["headers"] if k.lower() == "location"), "")
        raise RehearsalFailed(
            f"the new release answers {answer['status']}{' to ' + location if location else ''} at {path},"
            f" wanted {wanted.expect}",
            details=last_lines(answer["body"]),
            remedy=(
                'give the health table headers = { Host = "…", X-Forwarded-Proto = "https" }'
                if location.startswith("https:") else remedy
            ),
        )  # fmt: skip


def request_of(url: str) -> tuple[str, str, str]:
    """Scheme, path and host of a health URL."""
    if url.startswith("http+unix://"):
        _, _, path = url.removeprefix("http+unix://").partition(":")
        return "http", path or "/", "localhost"
    scheme, _, rest = url.partition("://")
    host_name, _, path = rest.partition("/")
    return scheme, f"/{path}", host_name
