"""The table of results: rows are added, replaced and summed, none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import results


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "_rows", {})
    return tmp_path / "RESULTS.md"


def test_a_row_that_runs_again_replaces_the_old_one_and_the_others_stay(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.record("random kills", injected=3, hit=3, broken=1, seed=7)
    results.record("power loss", injected=9, hit=8, broken=0, control="no fsync | 4 broken")
    results.write(table)
    monkeypatch.setattr(results, "_rows", {})
    results.record("random kills", injected=5, hit=4, broken=0, seed=8)
    results.write(table)

    rows = results.read(table)
    assert ["power loss", "random kills"] == sorted(rows)
    assert ("5", "4", "0", "8") == (
        rows["random kills"].injected, rows["random kills"].hit, rows["random kills"].broken, rows["random kills"].seed,
    )  # fmt: skip
    assert rows["power loss"].control == "no fsync / 4 broken"


def test_parts_of_one_technique_add_up(table: Path) -> None:
    results.record("per call", injected=3, hit=2, broken=0, seed=1, control="a")
    results.record("per call", injected=4, hit=4, broken=1, seed=2, control="a")
    results.write(table)

    row = results.read(table)["per call"]
    assert ("7", "6", "1", "1, 2", "a") == (row.injected, row.hit, row.broken, row.seed, row.control)


def test_a_control_that_runs_alone_keeps_the_numbers_and_numbers_alone_keep_the_control(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for numbers, control in (((3, 2), "found"), ((0, 0), "found again"), ((5, 4), "")):
        monkeypatch.setattr(results, "_rows", {})
        results.record("switch", injected=numbers[0], hit=numbers[1], broken=0, control=control)
        results.write(table)
        row = results.read(table)["switch"]
        assert (("5", "4") if numbers[0] == 5 else ("3", "2")) == (row.injected, row.hit)
    assert "found again" == results.read(table)["switch"].control


def test_a_session_that_recorded_nothing_leaves_the_table_alone(table: Path) -> None:
    results.write(table)

    assert not table.exists()
