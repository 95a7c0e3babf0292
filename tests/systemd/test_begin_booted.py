"""Boots a real systemd and runs the test of `inside_begin.py` in it."""

from __future__ import annotations

from booting import run_inside


def test_what_the_commands_for_a_beginner_say_leads_to_a_site_under_a_real_systemd() -> None:
    run_inside("sudo git redis-server", "inside_begin.py", timeout_seconds=900)
