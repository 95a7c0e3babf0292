"""A disk without room, without inodes, or read-only: nothing is harmed, and the way back works all the same."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import disk_room
import power_host as host
import pytest
from disk_room import Answer
from power_cut import SCENARIOS
from power_ground import Ground
from power_usual import Usual

import results

PLACES = ("before-requirements", "before-collect-static", "before-migrate", "after-migrate")


def told(answers: list[Answer]) -> list[str]:
    for one in answers:
        print(f"--- {' '.join(one.words)}: {one.code}, live {one.live}, {one.free} free\n{one.output}")
    return [text for one in answers for text in one.complaints()]


@pytest.mark.parametrize("trouble", ["no bytes", "no inodes"])
@results.one_of("full disk: all commands", of=2)
def test_the_way_back_works_on_a_full_disk(trouble: str, ground: Ground, workers: ProcessPoolExecutor) -> None:
    words: list[tuple[str, ...]] = [
        ("deploy",), ("recover",), ("status",), ("list",), ("rollback",), ("switch", "previous", "--force"),
        ("log",), ("history",), ("prune", "--keep", "1"),
    ]  # fmt: skip
    answers = workers.submit(disk_room.on_a_bad_disk, ground, SCENARIOS["switch"], trouble, words).result()
    assert [] == told(answers)
    deploy, _, _, _, rollback, switch, *_ = answers
    assert (1, "preflight-failed", "third") == (deploy.code, deploy.error, deploy.live)
    assert "free" in deploy.output
    assert 0 in deploy.free, "the disk was not full"
    assert [0, 0, "second", "third"] == [rollback.code, switch.code, rollback.live, switch.live]
    assert [0] * len(answers[1:]) == [one.code for one in answers[1:]]


@pytest.mark.parametrize("trouble", ["no bytes", "no inodes"])
@pytest.mark.parametrize("name", ["switch", "rollback"])
def test_recover_works_on_a_full_disk(
    name: str, trouble: str, ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    stops = usual[name].points[2:]
    stops = stops if host.everything() else stops[:: max(1, len(stops) // 3)]
    jobs = [
        workers.submit(disk_room.on_a_bad_disk, ground, SCENARIOS[name], trouble, [("recover",), ("list",)], stop=stop)
        for stop in stops
    ]
    with results.counted(f"full disk: recover of a {name}, {trouble}", of=len(usual[name].points) - 2) as count:
        count.injected = count.hit = len(stops)
        answers = [one for job in jobs for one in job.result()]
        assert [] == told(answers)
        assert [0] * len(answers) == [one.code for one in answers]
        assert all(0 in one.free for one in answers[::2]), "the disk was not full"
    assert {"second", "third"} == {one.live for one in answers}
    assert not any("activating" in one.output for one in answers[1::2])


@results.one_of("full disk: prune makes the room for a recovery", of=1)
def test_prune_makes_the_room_that_a_recovery_needs(
    ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    answers = workers.submit(
        disk_room.on_a_bad_disk, ground, SCENARIOS["switch"], "no bytes",
        [("recover",), ("prune", "--keep", "1"), ("recover",)], stop=usual["switch"].moved, reserve=False,
    ).result()  # fmt: skip
    assert [] == told(answers)
    assert ["storage-failed", "", ""] == [one.error for one in answers]
    assert [0, 0] == [one.code for one in answers[1:]]


@results.one_of("full disk: a switch with little room", of=1)
def test_a_switch_works_with_whatever_little_room_is_left(ground: Ground, workers: ProcessPoolExecutor) -> None:
    words = [("switch", "previous")]
    jobs = [
        workers.submit(disk_room.on_a_bad_disk, ground, SCENARIOS["switch"], "no bytes", words, left=left * 1024)
        for left in range(0, 49, 4 if host.everything() else 16)
    ]
    answers = [one for job in jobs for one in job.result()]
    assert [] == told(answers)
    assert [(0, "second")] * len(answers) == [(one.code, one.live) for one in answers]


@results.controlled("full disk: all commands", "without the reserve a switch fails, cleanly")
def test_without_the_reserve_a_switch_fails_cleanly(ground: Ground, workers: ProcessPoolExecutor) -> None:
    """The negative control: it is the reserve that lets a switch work on a full disk."""
    words = [("switch", "previous"), ("recover",)]
    answers = workers.submit(
        disk_room.on_a_bad_disk, ground, SCENARIOS["switch"], "no bytes", words, reserve=False
    ).result()
    assert [] == told(answers)
    assert (1, "storage-failed", "third") == (answers[0].code, answers[0].error, answers[0].live)


@pytest.mark.parametrize("trouble", ["no bytes", "no inodes"])
@pytest.mark.parametrize("at", PLACES)
@results.one_of("full disk: it fills up during a deploy", of=2 * len(PLACES))
def test_a_disk_that_fills_up_during_a_deploy_is_told_and_harms_nothing(
    at: str, trouble: str, ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    answers = list(workers.submit(disk_room.filled_while_deploying, ground, SCENARIOS["deploy"], trouble, at).result())
    assert [] == told(answers)
    deploy, recover = answers
    assert 0 == recover.code
    if deploy.code == 0:  # the reserve was enough for what was left to do
        assert "next" == deploy.live
        assert at in ("before-migrate", "after-migrate")
    else:
        assert "third" == deploy.live
        assert deploy.code == (4 if at in ("before-migrate", "after-migrate") else 1)
        assert "free some space" in deploy.output, "the remedy is not about the disk"


@results.one_of("read-only: all commands", of=1)
def test_what_is_read_only_is_told_and_stays(ground: Ground, workers: ProcessPoolExecutor) -> None:
    changing = [
        ("deploy",),
        ("switch", "previous"),
        ("rollback",),
        ("recover",),
        ("prune",),
        ("hold", "-m", "x"),
        ("pin", "previous"),
    ]
    reading = [("status",), ("list",), ("show",), ("history",)]
    answers = workers.submit(
        disk_room.on_a_bad_disk, ground, SCENARIOS["switch"], "read-only", [*changing, *reading]
    ).result()
    assert [] == told(answers)
    assert [(1, "storage-failed")] * len(changing) == [(one.code, one.error) for one in answers[: len(changing)]]
    assert [0] * len(reading) == [one.code for one in answers[len(changing) :]]
    assert {"third"} == {one.live for one in answers}


@results.one_of("full disk: refused before it begins", of=1)
def test_a_deploy_is_refused_when_the_last_release_would_not_fit_again(
    ground: Ground, workers: ProcessPoolExecutor
) -> None:
    """The free space is more than the least that is always wanted: it is the last release's size that decides."""
    left = 130_000_000
    small = workers.submit(disk_room.with_a_release_of, ground, SCENARIOS["deploy"], left, None).result()
    large = workers.submit(disk_room.with_a_release_of, ground, SCENARIOS["deploy"], left, 150_000_000).result()
    assert [] == told([small, large])
    assert (0, "next") == (small.code, small.live)
    assert (1, "preflight-failed", "third") == (large.code, large.error, large.live)
    assert "180 MB" in large.output
