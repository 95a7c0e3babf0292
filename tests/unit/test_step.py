"""Steps run in order, are recorded when they finished, and fail in our words."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path

import pytest

from bb_release.errors import BugFound, NotHealthy, StorageFailed
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.manifest import MANIFEST, Manifest, State
from bb_release.model.release import Release
from bb_release.model.step import Deployment, Scope, Step, do_each, run_steps


class Notes:
    """A reporter that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def step_started(self, step: Step) -> None:
        self.told.append(f"started {step.name}")

    def step_finished(self, step: Step, seconds: float) -> None:
        assert seconds >= 0
        self.told.append(f"finished {step.name}")

    def step_failed(self, step: Step) -> None:
        self.told.append(f"failed {step.name}")

    def step_skipped(self, step: Step) -> None:
        self.told.append(f"skipped {step.name}")

    def line(self, text: str) -> None:
        self.told.append(text)

    say = warn = line


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    folder = tmp_path / "releases" / "2026-03-01-12-00-00"
    folder.mkdir(parents=True)
    release = Release(folder, Manifest(name=folder.name, state=State.BUILDING)).mark()
    return Deployment(
        app=App("site", "repository", tmp_path),
        release=release,
        previous=None,
        reporter=Notes(),
        lock=-1,
        site_environment={"SECRET_KEY": "s3cr3t-value"},
        build_environment={},
    )


def step(name: str, scope: Scope = Scope.RELEASE, error: Exception | None = None) -> Step:
    def act(deployment: Deployment) -> None:
        deployment.reporter.line(f"did {name}")
        if error is not None:
            raise error

    return Step(name, f"Do {name}", scope, act)


def test_steps_run_in_order_and_are_told_of(deployment: Deployment) -> None:
    run_steps([step("a"), step("b", Scope.DATABASE), step("c", Scope.SITE)], deployment)
    expected = [f"{what} {name}" for name in "abc" for what in ("started", "did", "finished")]
    assert expected == deployment.reporter.told


def test_only_finished_steps_of_the_release_are_recorded(deployment: Deployment) -> None:
    run_steps([step("a"), step("b", Scope.DATABASE), step("c", Scope.SITE), step("d")], deployment)
    assert ["a", "d"] == sorted(deployment.release.manifest.steps)
    written = deployment.release.mark(State.READY)
    assert written == releases.read(deployment.release.folder)
    assert ["a", "d"] == sorted(written.manifest.steps)


def test_a_finished_step_is_skipped_only_when_it_concerns_the_release(deployment: Deployment) -> None:
    deployment.release = deployment.release.mark(steps={"a": 1.0, "b": 1.0, "c": 1.0})
    run_steps([step("a"), step("b", Scope.DATABASE), step("c", Scope.SITE), step("d")], deployment)
    assert "skipped a" == deployment.reporter.told[0]
    assert ["did b", "did c", "did d"] == [t for t in deployment.reporter.told if t.startswith("did")]
    assert 1.0 == deployment.release.manifest.steps["a"]


def test_what_a_step_marked_on_the_release_is_kept(deployment: Deployment) -> None:
    def mark(deployment: Deployment) -> None:
        deployment.release = deployment.release.mark(facts={"django": "5.2"})

    run_steps([Step("facts", "Ask Django", Scope.RELEASE, mark)], deployment)
    manifest = deployment.release.manifest
    assert ({"django": "5.2"}, ["facts"]) == (manifest.facts, list(manifest.steps))


def test_a_failed_step_ends_the_run_and_is_not_recorded(deployment: Deployment) -> None:
    failure = NotHealthy("it answers 500", remedy="look at its log")
    failing = step("b", error=failure)
    with pytest.raises(NotHealthy) as caught:
        run_steps([step("a"), failing, step("c")], deployment)
    assert caught.value is failure
    assert failing is deployment.failed_step
    assert ["started b", "did b", "failed b"] == deployment.reporter.told[-3:]
    assert ["a"] == list(deployment.release.manifest.steps)


def test_an_error_of_the_operating_system_becomes_a_storage_failure(deployment: Deployment) -> None:
    refusal = OSError(errno.ENOSPC, "No space left on device", "/srv/site/x")
    with pytest.raises(StorageFailed, match="could not write /srv/site/x: No space left on device") as caught:
        run_steps([step("a", error=refusal)], deployment)
    assert refusal is caught.value.__cause__
    assert "failed a" == deployment.reporter.told[-1]


def test_a_step_that_cannot_be_recorded_has_failed(deployment: Deployment) -> None:
    def remove(deployment: Deployment) -> None:
        (deployment.release.folder / MANIFEST).unlink()
        deployment.release.folder.rmdir()

    with pytest.raises(StorageFailed):
        run_steps([Step("a", "Do a", Scope.RELEASE, remove)], deployment)
    assert ["started a", "failed a"] == deployment.reporter.told


@pytest.mark.parametrize("bug", [KeyError("x"), ZeroDivisionError()])
def test_a_bug_is_a_failure_of_its_step_and_is_called_a_bug(deployment: Deployment, bug: Exception) -> None:
    with pytest.raises(BugFound, match=f"a bug in bb-release: {type(bug).__name__} in test_step.py, line") as caught:
        run_steps([step("a", error=bug)], deployment)
    assert caught.value.__cause__ is bug
    assert deployment.failed_step is not None


def test_a_deployments_text_shows_no_secret(deployment: Deployment) -> None:
    assert "s3cr3t-value" not in repr(deployment)


def test_each_act_is_done_though_another_fails_and_the_first_failure_tells_of_all() -> None:
    done = []

    def act(name: str, error: Exception | None = None) -> None:
        done.append(name)
        if error:
            raise error

    refused = NotHealthy("the first one", remedy="mend it")
    acts = [partial(act, "a"), partial(act, "b", refused), partial(act, "c", OSError(errno.ENOSPC, "full"))]
    with pytest.raises(NotHealthy) as caught:
        do_each([*acts, partial(act, "d")])
    assert ["a", "b", "c", "d"] == done
    assert caught.value is refused
    assert "full" in refused.details
    do_each(acts[:1])
