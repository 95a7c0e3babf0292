"""The commands of the site's own, each at its place of the pipeline."""

from __future__ import annotations

from bb_release.errors import CommandFailed, NotNow, ReleaseError
from bb_release.model.step import Deployment
from bb_release.tools import process, stage
from bb_release.tools.process import ProcessFailed

NOT_NOW = 75  # EX_TEMPFAIL of sysexits.h


def last_lines(output: str, count: int = 12) -> str:
    """The end of a program's output: what an error shows of it."""
    return "\n".join([line for line in output.splitlines() if line.strip()][-count:])


def run_commands(deployment: Deployment, at: str) -> None:
    """The site's own commands at one place of the pipeline. Raises CommandFailed, or NotNow on exit code 75."""
    for wanted in deployment.app.run:
        if wanted.at != at or (wanted.first_only and not deployment.is_first):
            continue
        before_build_is_done = at in ("before-requirements", "before-collect-static", "after-collect-static")
        env = deployment.build_environment if before_build_is_done else deployment.site_environment
        failed = {"BB_FAILED_STEP": deployment.failed_step.name} if deployment.failed_step else {}
        folder = deployment.release.tree / deployment.app.subfolder / wanted.folder
        if at == "after-failure":  # it may have come before there was a tree, and somebody waits for word
            folder = next(path for path in (folder, *folder.parents) if path.is_dir())
        stage.end()  # the command may change what Django has loaded
        try:
            process.run(
                wanted.command, cwd=folder, env={**env, **failed, "BB_AT": at}, on_line=deployment.reporter.line,
                timeout_seconds=wanted.timeout_seconds or None, pass_fds=(deployment.lock,),
            )  # fmt: skip
        except ProcessFailed as error:
            if error.returncode == NOT_NOW and at.startswith("before-"):
                raise NotNow(
                    f"{wanted.command[0]} said: not now",
                    details=last_lines(error.output),
                    remedy="run it again later",
                ) from error
            raise CommandFailed(
                f"{' '.join(wanted.command)} ({at}) {error.reason}",
                details=last_lines(error.output),
                remedy="correct it, then run: bb-release deploy",
            ) from error


def tell(deployment: Deployment, at: str) -> None:
    """Run the site's own commands after the fact: one that fails is reported, and changes nothing of the result."""
    try:
        run_commands(deployment, at)
    except ReleaseError as error:
        deployment.reporter.warn(f"{error.message}: {error.details}" if error.details else error.message)
