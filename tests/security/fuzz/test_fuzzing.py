"""A short run of the fuzzer for each target: `scripts/test --all`, which brings atheris. BB_FUZZ_SECONDS is for each."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS

from programs import missing

SECONDS = int(os.environ.get("BB_FUZZ_SECONDS", "10"))


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_errors_with_a_remedy_comes_out(name: str, tmp_path: Path) -> None:
    if os.environ.get("BB_ALL") != "1":
        pytest.skip("only with BB_ALL=1")
    if importlib.util.find_spec("atheris") is None:
        missing(f"atheris is not there for Python {sys.version_info[0]}.{sys.version_info[1]}", "REQUIRE_FUZZING")
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, folder / "run_fuzzer.py", name, str(SECONDS), tmp_path], cwd="/", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace", env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=60 * SECONDS + 300,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout[-2000:] + done.stderr[-6000:]
    assert "stat::number_of_executed_units" in done.stderr
