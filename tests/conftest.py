"""Shared by the tests that run the installed command."""

from __future__ import annotations

import compileall
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results
from bb_release.model.layout import Layout
from example_site import NOBODY, PROJECT, Site, running_site
from required import require_program

# Begun last, one of these would go on alone when all others have ended; and those that need the power tests' images are
# not next to each other, as only one of several can make them.
LONG = (
    "booted.py", "test_failpoints.py", "test_calls.py", "test_power_loss.py", "test_signal_points.py",
    "test_disk_errors.py", "test_signals.py", "test_machine.py", "test_disk_full.py", "test_kill.py",
    "test_power_reordered.py", "test_races.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """The agent's byte code, as pip makes it: who runs the agent here may not write it, and would compile at each start."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(PROJECT / "agent" / "bb_release", quiet=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, end in enumerate(LONG) if item.path.name.endswith(end)), len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """The numbers so far go into RESULTS.md, when BB_CRASH_RESULTS=1 says so: a session that is ended keeps them.

    After the fixtures have ended: those of the tests of the table itself have numbers of their own until then.
    """
    try:
        yield
    finally:
        if results.is_wanted():
            results.write()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How long the crash tests took: on two idle cores the sample is to stay below 15 minutes.

    It is told and not required, as a busy machine takes longer and nothing is wrong with it.
    """
    reports = [report for found in terminalreporter.stats.values() for report in found if hasattr(report, "duration")]
    crashes = [report.duration for report in reports if report.nodeid.startswith("tests/crash/")]
    workers = getattr(config.option, "numprocesses", None) or 1
    if crashes:
        terminalreporter.section("crash tests")
        terminalreporter.write_line(f"{sum(crashes):.0f} s of work, about {sum(crashes) / workers:.0f} s by {workers}")


@pytest.fixture(scope="session")
def cache() -> Iterator[Path]:
    """One installer cache for the whole session, so that a package is downloaded once."""
    folder = Path(tempfile.mkdtemp(prefix="bb-cache-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def strace() -> str:
    """The strace program; Debian's, where root runs the tests."""
    require_program("strace", "STRACE")
    return "strace"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An app root with nothing but a place for releases; a test of what lies elsewhere has one of its own."""
    (tmp_path / "releases").mkdir()
    return Layout(tmp_path)


@pytest.fixture
def site(cache: Path) -> Iterator[Site]:
    """A site with nothing deployed yet."""
    with running_site(cache=cache) as made:
        yield made


@pytest.fixture(scope="module")
def live_site(cache: Path) -> Iterator[Site]:
    """A site whose first revision is live; shared by a module's tests, which leave it live."""
    with running_site(cache=cache) as made:
        made.ok("deploy")
        yield made
