"""The table of results: rows are added, replaced and summed, none is lost, and a failure is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

import results


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "_counts", {})
    monkeypatch.setattr(results, "ALL", False)
    return tmp_path / "RESULTS.md"


class Sessions:
    """One after the other, each writes what it counted."""

    def __init__(self, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table, self.monkeypatch = table, monkeypatch

    def run(self, technique: str, injected: int, *, everything: bool = False, broken: int = 0, **facts: object) -> None:
        self.monkeypatch.setattr(results, "_counts", {})
        self.monkeypatch.setattr(results, "ALL", everything)
        with results.counted(technique, **facts) as count:  # type: ignore[arg-type]
            count.injected, count.hit, count.broken = injected, injected - 1, broken
        results.write(self.table)

    def row(self, technique: str) -> results.Row:
        return results.read(self.table)[technique]


@pytest.fixture
def sessions(table: Path, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    return Sessions(table, monkeypatch)


def test_a_row_that_runs_again_replaces_the_old_one_and_the_others_stay(sessions: Sessions) -> None:
    sessions.run("random kills", 3, broken=1, seed=7)
    sessions.run("power loss", 9, of=40)
    sessions.run("random kills", 5, seed=8)

    assert ["power loss", "random kills"] == sorted(results.read(sessions.table))
    row = sessions.row("random kills")
    assert ("sample", "5", "4", "0", "8") == (row.run, row.injected, row.hit, row.broken, row.seed)
    assert ("40", "9") == (sessions.row("power loss").of, sessions.row("power loss").injected)


def test_a_test_that_fails_leaves_a_broken_state_in_the_table(sessions: Sessions) -> None:
    sessions.run("power loss", 9, of=9)
    with pytest.raises(AssertionError):
        find_broken()
    results.write(sessions.table)

    assert int(sessions.row("power loss").broken) >= 1


@results.one_of("power loss", of=9)
def find_broken() -> None:
    raise AssertionError("the live release is half a release")


def test_a_test_that_fails_before_its_first_fault_is_in_the_table_as_well(sessions: Sessions) -> None:
    sessions.run("power loss", 9, of=9)
    with pytest.raises(RuntimeError), results.counted("power loss", of=9):
        raise RuntimeError("nothing can be mounted")
    results.write(sessions.table)

    assert int(sessions.row("power loss").broken) >= 1


def test_a_test_that_is_skipped_leaves_the_row_alone(sessions: Sessions) -> None:
    sessions.run("power loss", 9, of=9)
    before = sessions.table.read_text()
    with pytest.raises(pytest.skip.Exception), results.counted("power loss", of=9):
        pytest.skip("no loop device")
    results.write(sessions.table)

    assert before == sessions.table.read_text()


def test_a_sample_replaces_a_whole_run_only_when_something_broke_in_it(sessions: Sessions) -> None:
    sessions.run("power loss", 40, everything=True, of=40)
    sessions.run("power loss", 9, of=40)
    assert ("--all", "40", "0") == row_facts(sessions)
    sessions.run("power loss", 8, of=40, broken=1)
    assert ("sample", "8", "1") == row_facts(sessions)
    sessions.run("power loss", 41, everything=True, of=41)
    assert ("--all", "41", "0") == row_facts(sessions)
    sessions.run("power loss", 39, everything=True, of=39)
    assert ("--all", "39", "0") == row_facts(sessions)


def row_facts(sessions: Sessions) -> tuple[str, str, str]:
    row = sessions.row("power loss")
    return row.run, row.injected, row.broken


def test_a_test_that_tries_all_points_is_a_whole_run_in_the_ordinary_one_too(sessions: Sessions) -> None:
    sessions.run("power loss", 40, of=40)

    assert sessions.row("power loss").run == "--all"


def test_parts_of_one_technique_add_up(table: Path) -> None:
    for injected, broken, seed, step in ((3, 0, 1, "checkout"), (4, 1, 2, "migrate")):
        with results.counted("per call", of=9, seed=seed) as count:
            count.injected, count.hit, count.broken, count.control = injected, injected - 1, broken, "a"
            count.by_step.update({step: injected, "verify": 1})
    results.write(table)

    row = results.read(table)["per call"]
    assert ("7", "9", "5", "1") == (row.injected, row.of, row.hit, row.broken)
    assert ("1, 2", "a", "checkout 3, migrate 4, verify 2") == (row.seed, row.control, row.by_step)


def test_a_control_that_runs_alone_keeps_the_numbers_and_numbers_alone_keep_the_control(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions.run("switch", 3)
    monkeypatch.setattr(results, "_counts", {})
    with results.controlled("switch", "a | b is found"):
        pass
    results.write(sessions.table)
    assert ("3", "a / b is found") == (sessions.row("switch").injected, sessions.row("switch").control)

    sessions.run("switch", 5)
    assert ("5", "a / b is found") == (sessions.row("switch").injected, sessions.row("switch").control)


def test_a_control_that_is_not_found_any_more_is_told(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.run("switch", 3)
    monkeypatch.setattr(results, "_counts", {})
    with pytest.raises(AssertionError), results.controlled("switch", "a swap in two"):
        raise AssertionError("nothing is broken")
    results.write(sessions.table)

    assert "NOT FOUND: a swap in two" == sessions.row("switch").control


def test_a_session_that_counted_nothing_leaves_the_table_alone(table: Path) -> None:
    results.write(table)

    assert not table.exists()


def test_no_row_of_these_tests_is_in_the_table() -> None:
    assert not {"power loss", "random kills", "per call", "switch"} & set(results.read(results.TABLE))
