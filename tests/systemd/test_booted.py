"""Boots a real systemd and runs the tests of `inside.py` and `inside_user.py` in it, and those of `inside_handover.py`."""

from __future__ import annotations

from booting import run_inside


def test_the_units_work_under_a_real_systemd() -> None:
    run_inside("sudo git polkitd", "inside.py", "inside_user.py")


def test_releases_hand_over_to_each_other_under_a_real_systemd() -> None:
    run_inside("sudo git nginx redis-server", "inside_handover.py")
