"""Byte code for what was just installed, by the environment's own Python; uv would go through all that is there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bb_release.tools import process

# Valid as long as the source has its time and size, as Python makes it by itself (SOURCE_DATE_EPOCH would change
# that). What is no valid Python stays as it is: packages have templates and code for other versions.
_COMPILE = """
import functools, os, sys
from compileall import compile_file
from concurrent.futures import ProcessPoolExecutor
from py_compile import PycInvalidationMode
paths = [os.fsdecode(path) for path in sys.stdin.buffer.read().split(b"\\0")[:-1]]
one = functools.partial(compile_file, quiet=2, invalidation_mode=PycInvalidationMode.TIMESTAMP)
if len(paths) < 40:
    for path in paths:
        one(path)
else:
    with ProcessPoolExecutor(int(sys.argv[1])) as pool:
        for _ in pool.map(one, paths, chunksize=10):
            pass
"""


def make(
    python: Path,
    paths: Iterable[str],
    *,
    env: Mapping[str, str],
    timeout_seconds: float | None,
    pass_fds: Sequence[int],
) -> None:
    """Compile these files, at low priority, with as many processes as there are cores. Raises ProcessFailed."""
    listed = bytearray()  # there may be 50,000: no list of them is kept
    for path in paths:
        listed += os.fsencode(path) + b"\0"
    if listed:
        process.run(
            [python, "-I", "-W", "ignore", "-c", _COMPILE, str(os.cpu_count() or 1)],
            env=env, timeout_seconds=timeout_seconds, pass_fds=pass_fds, low_priority=True, stdin=bytes(listed),
        )  # fmt: skip
