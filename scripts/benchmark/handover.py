"""What `scripts/bench handover` runs: it boots a systemd, has `handover_host.py` measure in it, and tells."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmark import report, tally

PROJECT = Path(__file__).resolve().parents[2]
HOST = Path(__file__).with_name("handover_host.py")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench handover",
        description="Measures what visitors see of a switch, by each way of handing over, with a real nginx, gunicorn"
        " and systemd, which root boots for it; nothing of it is left. A minute and a half for each of --deploys.",
    )
    parser.add_argument("--deploys", type=int, default=10, metavar="N", help="switches of each way (default: 10)")
    parser.add_argument("--rate", type=int, default=200, metavar="N", help="requests a second (default: 200)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every number")
    parser.add_argument("--write", action="store_true", help="renew docs/handover.* and the README's table")
    given = parser.parse_args()
    if given.deploys < 1 or given.rate < 1:
        parser.error("--deploys and --rate are at least 1")
    if given.json and not given.json.absolute().parent.is_dir():
        parser.error(f"{given.json} lies in no folder")
    if given.write and not tally.has_place(PROJECT):
        parser.error("README.md has no place, or more than one, for the table of handovers")
    if os.geteuid() != 0:
        parser.error("a systemd is booted, in namespaces of its own: run it as root")
    return given


def measure(folder: Path, deploys: int, rate: int) -> dict[str, Any]:
    """Every number. Raises CalledProcessError; what went wrong was told on the terminal."""
    words = [
        PROJECT / "scripts/with-systemd", "--net", "host", "--bind", PROJECT, "--bind", folder,
        "--packages", "sudo git nginx", "--", sys.executable, HOST, folder / "facts.json", str(deploys), str(rate),
    ]  # fmt: skip
    with subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.DEVNULL) as booted:
        try:
            code = booted.wait()
        except BaseException:
            booted.terminate()  # it powers off, and leaves nothing
            booted.wait()
            raise
    if code:
        raise subprocess.CalledProcessError(code, "scripts/with-systemd")
    found: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return found


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="bb-bench-"))
    try:
        facts = measure(folder, given.deploys, given.rate)
    except subprocess.CalledProcessError as error:
        sys.exit(f"scripts/bench handover: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    told = [tally.described(facts), report.columns(tally.rows(facts)), "\n".join(tally.aims(facts))]
    print("\n" + "\n\n".join(told))
    if given.json:
        given.json.write_text(json.dumps(facts, indent=1) + "\n")
    if given.write:
        tally.write(PROJECT, facts)


if __name__ == "__main__":
    main()
