"""What a person is told to type, and how moments look."""

from __future__ import annotations

import time

import pytest

from bb_release import console


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_spoken", console._spoken)
    console.speak(["--config", "/a b/shop.toml"], ["deploy", "units", "status"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bb-release deploy", "bb-release --config '/a b/shop.toml' deploy"),
        ("sudo bb-release units --install", "sudo bb-release --config '/a b/shop.toml' units --install"),
        ("one line\nbb-release status; then bb-release deploy",
         "one line\nbb-release --config '/a b/shop.toml' status; then bb-release --config '/a b/shop.toml' deploy"),
        ("bb-release status --config /c.toml", "bb-release status --config /c.toml"),
        ("bb-release -a shop deploy", "bb-release -a shop deploy"),
        ("this bb-release reads 1", "this bb-release reads 1"),
        ("/opt/bb-release deploy", "/opt/bb-release deploy"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("named")
def test_a_command_of_ours_that_is_shown_names_the_app_once(text: str, expected: str) -> None:
    assert expected == console.spoken(text)


def test_without_an_option_a_command_is_shown_as_it_is() -> None:
    assert "bb-release deploy" == console.spoken("bb-release deploy")


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("UTC", "2026-11-23 12:00:00 UTC"), ("CET-1", "2026-11-23 13:00:00 CET (12:00:00 UTC)")],
)  # fmt: skip
def test_a_moment_is_told_in_this_host_s_zone_and_in_utc_but_not_twice(
    monkeypatch: pytest.MonkeyPatch, zone: str, expected: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert expected == console.local_time("2026-11-23T12:00:00+00:00")
    finally:
        monkeypatch.undo()
        time.tzset()
