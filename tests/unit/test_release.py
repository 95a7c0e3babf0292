"""A release's name, its manifest on disk, and how an operator's word finds it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bb_release.actions import proof
from bb_release.errors import NoSuchRelease, ReleaseNotUsable, StateUnreadable
from bb_release.model import release as releases
from bb_release.model.layout import Layout
from bb_release.model.manifest import MANIFEST, Manifest, State
from bb_release.model.release import Release
from bb_release.model.shape import MANIFEST as MANIFEST_KINDS
from bb_release.tools.units import UnitState

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def a_release(
    layout: Layout, second: int, *, state: State = State.VERIFIED, sequence: int = 0, previous: str = "", **facts: Any
) -> Release:
    """A release on disk; with a sequence it was live once."""
    name = (NOON + timedelta(seconds=second)).strftime(releases.TIME)
    (layout.releases / name).mkdir()
    activations = ({"sequence": sequence, "previous": previous},) if sequence else ()
    manifest = Manifest(name=name, state=state, activations=activations, sequence=sequence, **facts)
    return Release(layout.releases / name, manifest).mark()


def live_again(release: Release, sequence: int) -> Release:
    """The same release, activated once more."""
    return release.mark(activations=(*release.manifest.activations, {"sequence": sequence, "previous": ""}))


# names


def test_a_name_is_the_time_in_utc_without_fractions(layout: Layout) -> None:
    moment = datetime.fromisoformat("2026-03-01T14:00:00.987654+02:00")
    assert "2026-03-01-12-00-00" == releases.next_name(layout, moment)


@pytest.mark.parametrize("clock", [timedelta(0), timedelta(seconds=-1), timedelta(days=-400), timedelta(seconds=5)])
def test_names_are_unique_and_rise_whatever_the_clock_does(layout: Layout, clock: timedelta) -> None:
    made = []
    for number in range(5):
        name = releases.next_name(layout, NOON + clock * number)
        (layout.releases / name).mkdir()
        made.append(name)
    assert sorted(set(made)) == made


def test_a_name_rises_over_the_end_of_a_year(layout: Layout) -> None:
    (layout.releases / "2026-12-31-23-59-59").mkdir()
    assert "2027-01-01-00-00-00" == releases.next_name(layout, NOON)


def test_after_the_last_possible_name_there_is_a_clear_error(layout: Layout) -> None:
    (layout.releases / "9999-12-31-23-59-59").mkdir()
    with pytest.raises(StateUnreadable, match="no release can be named after 9999-12-31-23-59-59"):
        releases.next_name(layout, NOON)


def test_strangers_in_the_folder_are_not_counted(layout: Layout) -> None:
    mine = a_release(layout, 0)
    (layout.releases / "2099-01-01").mkdir()
    (layout.releases / "2099-99-99-99-99-99").mkdir()
    (layout.releases / "notes.txt").touch()
    (layout.releases / "2099-01-01-00-00-00").symlink_to(mine.folder)
    assert [mine.name] == releases.names(layout)


def test_a_host_without_a_releases_folder_has_no_names(tmp_path: Path) -> None:
    assert [] == releases.names(Layout(tmp_path))


def test_begin_makes_a_building_release_with_the_next_sequence(layout: Layout) -> None:
    a_release(layout, 0, sequence=7)
    first = releases.begin(layout, ref="main", revision="a" * 40)
    second = releases.begin(layout)
    assert (State.BUILDING, 8, "main") == (first.state, first.manifest.sequence, first.manifest.ref)
    assert 9 == second.manifest.sequence
    assert first.name < second.name
    assert first == releases.read(first.folder)


def test_the_next_sequence_counts_activations_too(layout: Layout) -> None:
    old = a_release(layout, 0, sequence=2)
    old = old.mark(activations=({"sequence": 2}, {"sequence": 11}))
    assert 12 == releases.next_sequence([old, a_release(layout, 1, sequence=3)])
    assert 1 == releases.next_sequence([])


# manifests


def test_a_manifest_comes_back_as_it_was_written(layout: Layout) -> None:
    written = a_release(
        layout,
        0,
        sequence=4,
        previous="2026-01-01-00-00-00",
        state=State.BAD,
        ref="main",
        revision="ab" * 20,
        shape="s",
        before="verified",
        makes_bad="x",
        steps={"checkout": 1.5},
        facts={"django": "5.2", "apps": ["a"]},
        migrations=("brackets.0001_initial",),
        packages={"django": "5.2"},
        failure={"code": "not-healthy"},
        size=(12, 3),
    )
    assert written == releases.read(written.folder)


def test_what_a_thousand_releases_say_alike_is_kept_once(layout: Layout) -> None:
    for second in range(3):
        a_release(layout, second, packages={"django": "5.2.19" if second < 2 else "6.0"}, facts={"static_root": "/s"})
    first, second, third = (releases.read(layout.releases / name).manifest for name in releases.names(layout))
    assert first.packages is second.packages
    assert first.facts is third.facts
    assert {"django": "6.0"} == third.packages
    assert {"django": "5.2.19"} == releases.read(layout.releases / first.name).manifest.packages


def test_mark_changes_the_file_and_leaves_the_value_it_was_called_on(layout: Layout) -> None:
    before = a_release(layout, 0, state=State.READY)
    after = before.mark(State.FAILED, failure={"code": "c"})
    assert (State.READY, State.FAILED) == (before.state, after.state)
    assert after == releases.read(before.folder)
    assert {MANIFEST} == {p.name for p in before.folder.iterdir()}
    assert 0o644 == (before.folder / MANIFEST).stat().st_mode & 0o777


def test_while_it_is_built_only_another_state_is_written_and_with_it_all_that_was_noted(layout: Layout) -> None:
    begun = releases.begin(layout, revision="a" * 40)
    assert begun == releases.read(begun.folder)
    noted = begun.mark(facts={"django": "5.2"})
    assert begun == releases.read(begun.folder)
    ended = noted.mark(State.FAILED)
    assert ({"django": "5.2"}, State.FAILED) == (ended.manifest.facts, ended.state)
    assert ended == releases.read(begun.folder)


def test_a_key_this_agent_does_not_know_is_passed_over(layout: Layout) -> None:
    written = a_release(layout, 0)
    path = written.folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "green"}))
    assert written == releases.read(written.folder)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "null",
        "\udcff",
        '{"format": 2, "name": "2026-03-01-12-00-00", "state": "verified"}',
        '{"name": "2026-03-01-12-00-00", "state": "verified"}',
        '{"format": 1, "name": "2026-03-01-12-00-00"}',
        '{"format": 1, "name": "2026-03-01-12-00-00", "state": "splendid"}',
        '{"format": 1, "name": "2020-01-01-00-00-00", "state": "verified"}',
    ],
    ids=["missing", "empty", "torn", "list", "null", "bytes", "newer", "unversioned", "stateless", "state", "foreign"],
)
def test_a_manifest_that_cannot_be_trusted_is_never_guessed_at(layout: Layout, text: str | None) -> None:
    folder = layout.releases / "2026-03-01-12-00-00"
    folder.mkdir()
    if text is not None:
        (folder / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StateUnreadable) as caught:
        releases.read(folder)
    assert folder.name in caught.value.message
    assert str(folder / MANIFEST) in caught.value.remedy


def test_every_key_of_a_manifest_has_a_kind() -> None:
    assert {one.name for one in fields(Manifest)} == set(MANIFEST_KINDS)


def test_readable_tells_the_broken_ones_apart(layout: Layout) -> None:
    good = a_release(layout, 0)
    (layout.releases / "2026-03-01-13-00-00").mkdir()
    found, broken = releases.readable(layout)
    assert [good] == found
    assert ["2026-03-01-13-00-00"] == list(broken)


def test_verified_for_asks_for_revision_shape_and_state(layout: Layout) -> None:
    mine = a_release(layout, 0, revision="a", shape="b")
    assert mine.is_verified_for("a", "b")
    assert not mine.is_verified_for("a", "c")
    assert not mine.is_verified_for("c", "b")
    assert not mine.mark(State.BAD).is_verified_for("a", "b")


# finding


def test_a_release_is_found_by_its_name_and_by_a_prefix_only_it_has(layout: Layout) -> None:
    first, second = a_release(layout, 0), a_release(layout, 61)
    assert first == releases.find(layout, first.name, None)
    assert second == releases.find(layout, "2026-03-01-12-01", None)


def test_an_ambiguous_word_lists_its_candidates(layout: Layout) -> None:
    first, second = a_release(layout, 0), a_release(layout, 61)
    with pytest.raises(NoSuchRelease, match="any of 2 releases") as caught:
        releases.find(layout, "2026", None)
    assert [first.describe(), second.describe()] == caught.value.details.splitlines()


def test_a_release_is_found_by_a_revision_and_by_a_prefix_of_it(layout: Layout) -> None:
    mine = a_release(layout, 0, revision="abcdef" + "0" * 34)
    a_release(layout, 1, revision="fedcba" + "0" * 34)
    assert mine == releases.find(layout, "abcdef" + "0" * 34, None)
    assert mine == releases.find(layout, "abcd", None)


@pytest.mark.parametrize("word", ["abc", "ABCDEF", "", "main", "previous ", "../x", "2025", "beef"])
def test_a_word_that_names_nothing_finds_nothing(layout: Layout, word: str) -> None:
    a_release(layout, 0, revision="abcdef" + "0" * 34)
    with pytest.raises(NoSuchRelease):
        releases.find(layout, word, None)


def test_of_one_revision_built_twice_the_newest_good_one_is_meant(layout: Layout) -> None:
    revision = "abcdef" + "0" * 34
    a_release(layout, 0, revision=revision)
    newest_good = a_release(layout, 1, revision=revision)
    a_release(layout, 2, revision=revision, state=State.FAILED)
    assert newest_good == releases.find(layout, "abcdef", None)


def test_a_prefix_of_two_revisions_is_ambiguous_even_when_one_is_good(layout: Layout) -> None:
    a_release(layout, 0, revision="abcd0" + "0" * 35)
    a_release(layout, 1, revision="abcd1" + "0" * 35, state=State.FAILED)
    with pytest.raises(NoSuchRelease, match="any of 2"):
        releases.find(layout, "abcd", None)


def test_digits_and_dashes_are_always_a_name_never_a_revision(layout: Layout) -> None:
    named = a_release(layout, 0, revision="f" * 40)
    a_release(layout, 366 * 86_400, revision="20260" + "0" * 35)
    assert named == releases.find(layout, "2026", None)
    with pytest.raises(NoSuchRelease):
        releases.find(layout, "20260", None)


def test_asking_for_an_unreadable_release_by_name_says_why_it_cannot_be_read(layout: Layout) -> None:
    (layout.releases / "2026-03-01-13-00-00").mkdir()
    with pytest.raises(ReleaseNotUsable, match=r"release\.json"):
        releases.find(layout, "2026-03-01-13-00-00", None)


def test_previous_is_what_was_live_before_the_current_ones_last_activation(layout: Layout) -> None:
    oldest = a_release(layout, 0, sequence=1)
    newer = a_release(layout, 1, sequence=2, previous=oldest.name)
    current = oldest.mark(activations=(*oldest.manifest.activations, {"sequence": 3, "previous": newer.name}))
    assert newer == releases.find(layout, "previous", current)
    assert oldest.name == releases.find(layout, "previous", newer).name


def test_there_is_no_previous_of_nothing_nor_of_a_first_release(layout: Layout) -> None:
    for current in (None, a_release(layout, 0), a_release(layout, 1, sequence=1)):
        with pytest.raises(NoSuchRelease, match="no earlier release"):
            releases.find(layout, "previous", current)


def test_a_rollback_goes_to_the_most_recently_live_good_one_and_skips_bad_ones(layout: Layout) -> None:
    good = a_release(layout, 0, sequence=1)
    bad = a_release(layout, 1, sequence=2, state=State.BAD)
    failed = a_release(layout, 2, state=State.FAILED)
    current = a_release(layout, 3, sequence=3)
    later = a_release(layout, 4, sequence=4)
    assert good == releases.last_good_before([good, bad, failed, current, later], current)
    assert releases.last_good_before([bad, failed, current, later], current) is None


def test_a_rollback_goes_by_activations_not_by_names(layout: Layout) -> None:
    came_back = live_again(a_release(layout, 0, sequence=1), 5)
    other = a_release(layout, 1, sequence=4)
    current = a_release(layout, 2, sequence=6)
    assert came_back == releases.last_good_before([came_back, other, current], current)


def test_a_rollback_never_goes_forward_to_what_a_switch_back_left(layout: Layout) -> None:
    oldest = a_release(layout, 0, sequence=1)
    back = live_again(a_release(layout, 1, sequence=2), 4)
    left = a_release(layout, 2, sequence=3)
    assert oldest == releases.last_good_before([oldest, back, left], back)
    assert releases.last_good_before([back, left], back) is None


def test_the_run_of_a_unit_that_was_proven_is_known_again_by_the_manifest_and_no_other_is(layout: Layout) -> None:
    first = UnitState(running=True, main_pid=71, summary="active", started=None, invocation="a1")
    others = [replace(first, invocation="a2"), replace(first, main_pid=72), replace(first, invocation="")]
    folder = a_release(layout, 0, proven={"web": first.run, "mute": others[2].run}).folder
    release = releases.read(folder)
    assert proof.was_proven(release, "web", first)
    assert not any(proof.was_proven(release, "web", other) for other in others)
    assert not proof.was_proven(release, "other", first)
    assert not proof.was_proven(release, "mute", others[2])  # its manager tells nothing that another run has not

    facts = json.loads((folder / MANIFEST).read_text())
    del facts["proven"]
    (folder / MANIFEST).write_text(json.dumps(facts))  # as older agents have written it
    older = releases.read(folder)
    assert (State.VERIFIED, False) == (older.state, proof.was_proven(older, "web", first))
