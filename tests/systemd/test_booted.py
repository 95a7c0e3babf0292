"""Boots a real systemd and runs the tests of `inside.py` and `inside_user.py` in it, and those of others in another."""

from __future__ import annotations

from booting import run_inside


def test_the_units_work_under_a_real_systemd() -> None:
    run_inside("sudo git polkitd", "inside.py", "inside_user.py")


def test_what_would_go_wrong_is_found_out_before_under_a_real_systemd() -> None:
    run_inside("sudo git polkitd", "inside_before.py")


def test_releases_hand_over_to_each_other_under_a_real_systemd() -> None:
    run_inside("sudo git polkitd nginx redis-server", "inside_handover.py")
