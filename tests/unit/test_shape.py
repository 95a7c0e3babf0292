"""What is read back from files of ours is believed only when it could be ours."""

from __future__ import annotations

import grp
import json
import os
import pwd
import time
from pathlib import Path

import pytest

from bb_release.actions import timer
from bb_release.errors import StateUnreadable
from bb_release.model import hold
from bb_release.model.app import App
from bb_release.tools.filesystem import group_name, name_of, open_parents, parents_of_others
from bb_release.tools.mask import visible

HOLD = {"who": "dev", "since": "2026-01-01T00:00:00+00:00", "reason": "x", "by_hand": True}
REVISION = "1" * 40


@pytest.fixture
def app(tmp_path: Path) -> App:
    (tmp_path / "state").mkdir()
    return App(name="shop", repository="git@git.example.org:a/b.git", root=tmp_path)


@pytest.mark.parametrize("content", [{}, [1], {**HOLD, "who": 1}, {"who": "dev"}, "held", True])
def test_a_hold_that_cannot_be_ours_is_never_taken_for_none(app: App, content: object) -> None:
    app.layout.hold.write_text(json.dumps(content))
    with pytest.raises(StateUnreadable, match=r"hold\.json"):
        hold.read(app.layout)
    app.layout.hold.write_text(json.dumps(HOLD))
    assert HOLD == hold.read(app.layout)


@pytest.mark.parametrize("content", [{"a": 1}, [1], ["a", None], "a"])
def test_pins_that_cannot_be_ours_are_never_taken_for_none(app: App, content: object) -> None:
    app.layout.pins.write_text(json.dumps(content))
    with pytest.raises(StateUnreadable, match=r"pins\.json"):
        hold.pins(app.layout)


@pytest.mark.parametrize("content", [[1], {"count": "3"}, {"next_at": []}, {"next_at": 1e999}, {"revision": 5}])
def test_tries_that_cannot_be_ours_are_told(app: App, content: object) -> None:
    app.layout.tries.write_text(json.dumps(content))
    for ask in (lambda: timer.waits(app, REVISION), lambda: timer.note_failure(app, REVISION, "x")):
        with pytest.raises(StateUnreadable, match=r"tries\.json"):
            ask()


def test_a_revision_waits_for_its_pause_and_not_for_what_a_wrong_clock_wrote(app: App) -> None:
    assert not timer.waits(app, REVISION)
    assert [False, True, True] == [timer.note_failure(app, REVISION, "x") for _ in range(3)]
    assert timer.waits(app, REVISION)
    assert not timer.waits(app, "2" * 40)
    facts = json.loads(app.layout.tries.read_text())
    assert 4 * timer.FIRST_PAUSE_SECONDS == pytest.approx(facts["next_at"] - time.time(), abs=60)
    for count, next_at in ((10**9, time.time() - 1), (3, time.time() + 10 * timer.LONGEST_PAUSE_SECONDS)):
        app.layout.tries.write_text(json.dumps({**facts, "count": count, "next_at": next_at}))
        assert not timer.waits(app, REVISION)
        timer.note_failure(app, REVISION, "x")
        assert timer.waits(app, REVISION)


def test_a_folder_that_everyone_may_write_is_open_unless_it_is_sticky(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for mode, expected in ((0o755, []), (0o777, [tmp_path / "a"]), (0o1777, []), (0o775, [])):
        (tmp_path / "a").chmod(mode)
        assert expected == open_parents(inner)
    (tmp_path / "link").symlink_to(inner)
    (tmp_path / "a").chmod(0o777)
    assert [tmp_path / "a"] == open_parents(tmp_path / "link" / "root")


def members_of(group: grp.struct_group) -> list[str]:
    return [*group.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == group.gr_gid)]


def test_who_else_may_put_another_folder_in_the_place_of_the_root_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    me = os.geteuid()
    assert [] == parents_of_others(inner, me)
    assert {(tmp_path / "a", name_of(me))} <= set(parents_of_others(inner, me + 1)) or me == 0
    if me == 0:  # only root gives files away
        os.chown(tmp_path / "a", 0, 65534)
        (tmp_path / "a").chmod(0o775)
        assert [(tmp_path / "a", f"the group {group_name(65534)}")] == parents_of_others(inner, me)  # nobody is in it
        os.chown(tmp_path / "a", 0, 987_654)
        assert [(tmp_path / "a", "the group #987654")] == parents_of_others(inner, me)
        empty = [group.gr_gid for group in grp.getgrall() if group.gr_gid and not members_of(group)]
        for gid in empty[:1]:  # staff, to which Debian gives /var/local, say
            os.chown(tmp_path / "a", 0, gid)
            assert [] == parents_of_others(inner, me)
        os.chown(tmp_path / "a", 65534, 0)
        (tmp_path / "a").chmod(0o755)
        assert [(tmp_path / "a", "nobody")] == parents_of_others(inner, me)
        assert [] == parents_of_others(inner, 65534)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\tä€\n", "plain\tä€\n"), ("\x1b[2J\x07\r", "\\x1b[2J\\x07\\r"), ("\x9b5i", "\\x9b5i"),
        ("a\u202eb", "a\\u202eb"), ("caf\udce9", "caf\\udce9"), ("\0", "\\x00"),
    ],
)  # fmt: skip
def test_what_would_steer_a_terminal_is_shown_as_an_escape(text: str, expected: str) -> None:
    assert expected == visible(text)
