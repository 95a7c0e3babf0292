"""What counts as proof that a unit runs the release."""

from __future__ import annotations

import subprocess
import sys

from example_site import Site, unprivileged

UNIT = """
[[units]]
name = "stubborn"
kind = "command"
restart = ["true"]
status = ["sh", "-c", "kill -0 {pid} && echo {pid}"]
settle_seconds = 0
"""


def test_a_restart_that_restarts_nothing_is_found_out(live_site: Site) -> None:
    stubborn = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd="/", **unprivileged())
    settings = dict(live_site.settings)
    try:
        live_site.write_config(**{"[run]": UNIT.format(pid=stubborn.pid)})
        done = live_site.run("restart")
        assert done.returncode == 21
        assert "error: not-healthy" in done.stderr
        assert f"its main process is still the one from before ({stubborn.pid})" in done.stderr
    finally:
        stubborn.communicate(b"\n")
        live_site.settings.clear()
        live_site.write_config(**settings)
    live_site.ok("restart")
