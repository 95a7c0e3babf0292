"""The parts of `scripts/bench handover` that need no booted systemd: visitors, figures, tables."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from benchmark import tally
from benchmark.visitors import Visit, read_answer

PROJECT = Path(__file__).resolve().parents[2]
ANSWER = b"HTTP/1.1 200 OK\r\nX-Code: new\r\nX-Packages: old\r\nContent-Length: 2\r\n\r\n"


def visits(*parts: tuple[float, float, str, str]) -> list[Visit]:
    """Visits at half seconds from 0.5 on, from the parts (until when, milliseconds, what, release)."""
    found, due = [], 0.5
    for until, milliseconds, what, release in parts:
        while due < until:
            found.append(Visit(due, milliseconds / 1000, 0.001, what, release, release))
            due += 0.5
    return found


SEEN = visits((1, 5, "200", "a"), (2, 5, "200", "a"), (4, 1, "502", ""), (6, 900, "200", "a"), (9, 7, "200", "b"))


def run(failures: dict[str, int], p99: float = 10.0) -> tally.Facts:
    return {
        "seconds": 2.0, "requests": 1000, "failures": failures, "p50": 2.0, "p99": p99, "max": 30.0, "late": 1.0,
        "after": 200, "old_code": 0, "old_packages": 50,
    }  # fmt: skip


def facts(**runs: list[tally.Facts]) -> tally.Facts:
    each = {
        "steady": [run({})],
        "build": [run({}, 15)],
        "restart": [run({"502": 9})],
        "hup": [run({})],
        "socket": [run({})],
    }
    return {
        "rate": 200, "deploys": 1, "cores": 2, "load": [0.1, 0.2], "measured_on": "2026-01-01", "versions": ["nginx 1"],
        "runs": {**each, "blue-green": [run({})], **{name.replace("_", "-"): value for name, value in runs.items()}},
    }  # fmt: skip


@pytest.mark.parametrize(("part", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)], ids=str)
def test_a_percentile_is_the_nearest_rank(part: float, expected: int) -> None:
    assert expected == tally.percentile(range(1, 101), part)


def test_counted_is_who_was_due_since_the_order_and_timed_who_was_answered() -> None:
    found = tally.tally(SEEN, 1.0, 5.0, "a", "b")
    assert (16, {"502": 4}) == (found["requests"], found["failures"])
    assert (7, 900, 900) == (found["p50"], found["p99"], found["max"])


def test_who_came_after_a_build_says_nothing_of_it() -> None:
    found = tally.tally(SEEN, 1.0, 4.5, "a", "b", until=4.5)
    assert (8, {"502": 4}, 5, 900) == (found["requests"], found["failures"], found["p50"], found["max"])


def test_who_is_answered_by_the_old_release_after_the_end_is_told() -> None:
    found = tally.tally(SEEN, 1.0, 5.0, "a", "b")
    assert (7, 1, 1) == (found["after"], found["old_code"], found["old_packages"])


@pytest.mark.parametrize(
    "seen",
    [
        visits((1, 5, "502", ""), (9, 5, "200", "b")),
        visits((1, 5, "200", "b"), (9, 5, "200", "b")),
        visits((1, 5, "200", "a"), (9, 5, "502", "")),
        [],
    ],
    ids=["not well before", "another release before", "nobody answered since", "no visit"],
)
def test_what_would_mean_nothing_is_not_measured(seen: list[Visit]) -> None:
    with pytest.raises(tally.NotMeasured):
        tally.tally(seen, 1.0, 5.0, "a", "b")


def test_an_answer_that_was_cut_off_is_none() -> None:
    assert ("200", "new", "old") == read_answer(ANSWER + b"ok")
    assert ["cut off"] * 3 == [read_answer(answer)[0] for answer in (ANSWER + b"o", ANSWER[:30], b"")]


def test_the_table_has_sums_of_failures_and_medians_of_times() -> None:
    shown = tally.rows(facts(socket=[run({}, 10), run({"502": 3, "TimeoutError": 1}, 50), run({}, 4000)]))
    line = next(line for line in shown if line[0] == '`"socket"`')
    assert ['`"socket"`', "3,000", "4", "2.0", "50", "30", "2.0", "0 %", "25 %"] == line
    assert {len(shown[0])} == {len(line) for line in shown}


def test_an_aim_that_was_missed_is_told_as_such() -> None:
    good = tally.aims(facts())
    assert [True, True] == [line.endswith("so it was") for line in good[:2]]
    assert [True, True] == [good[2].endswith("it was 1.0 times"), good[3].endswith("it was 1.5 times")]
    bad = tally.aims(facts(socket=[run({}), run({"502": 1})], blue_green=[run({}, 25)]))
    assert bad[0].endswith("not so in 1")
    assert bad[2].endswith("it was 2.5 times")


@pytest.fixture
def patient_site(tmp_path: Path) -> Iterator[tuple[str, threading.Event]]:
    """Answers nobody before twenty are there at once; and tells when they were."""
    waiting: list[socket.socket] = []
    came = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "site.sock"))
        listening.listen(100)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                waiting.append(connection)
                if came.is_set() or len(waiting) == 20:
                    came.set()
                    while waiting:
                        with waiting.pop() as each:
                            each.recv(1000)
                            each.sendall(ANSWER + b"ok")

        thread = threading.Thread(target=serve)
        thread.start()
        yield str(tmp_path / "site.sock"), came
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in waiting:
            each.close()


def test_visitors_do_not_wait_for_those_before_them_and_count_from_when_they_were_due(
    patient_site: tuple[str, threading.Event],
) -> None:
    path, came = patient_site
    program = [sys.executable, PROJECT / "scripts/benchmark/visitors.py", path, "100"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as visitors:
        try:
            assert came.wait(60)
            told, _ = visitors.communicate(timeout=60)
        finally:
            visitors.kill()
    seen = [Visit(*visit) for visit in json.loads(told)]
    assert {("200", "new", "old")} == {visit[3:] for visit in seen}
    assert seen[0].seconds >= seen[19].due - seen[0].due  # the first could not be answered before the twentieth came
    assert [0.01] * 19 == [round(after.due - visit.due, 6) for visit, after in itertools.pairwise(seen[:20])]


def test_the_readme_and_the_page_show_what_was_measured() -> None:
    kept = PROJECT / "docs" / "handover.json"
    known = json.loads(kept.read_text()) if kept.exists() else None
    shown = tally.PLACE.findall((PROJECT / "README.md").read_text())
    assert [f"{tally.BEGIN}{tally.block(known) if known else ''}{tally.END}"] == shown
    if known:
        assert tally.page(known) == (PROJECT / "docs" / "handover.md").read_text()


def test_what_is_written_is_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{tally.BEGIN}old\n{tally.END}\nafter\n")
    tally.write(tmp_path, facts())
    assert f"before\n{tally.BEGIN}{tally.block(facts())}{tally.END}\nafter\n" == readme.read_text()
    assert facts() == json.loads((tmp_path / "docs/handover.json").read_text())
    assert tally.page(facts()) == (tmp_path / "docs/handover.md").read_text()
