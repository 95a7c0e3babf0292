"""Boots a real systemd and runs the story of `inside_whole.py` in it."""

from __future__ import annotations

from booting import run_inside


def test_an_empty_host_comes_to_a_third_release_with_everything_that_a_site_has_in_production() -> None:
    run_inside("sudo git nginx redis-server postgresql", "inside_whole.py", timeout_seconds=1500)
