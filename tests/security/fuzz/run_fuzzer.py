"""Fuzzes one target with atheris, guided by what of the agent's code an input reaches: TARGET SECONDS FOLDER.

Exit code 0: nothing but errors with a remedy came out. Else the traceback and the input are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bb_release"]):
    from fuzz_targets import SEEDS, call


def main() -> None:
    name, seconds, corpus = sys.argv[1:4]

    def one(data: bytes) -> None:
        try:
            call(name, data)
        except BaseException:
            print(f"the input was {data[:3000]!r}", file=sys.stderr)
            raise

    for number, seed in enumerate(SEEDS[name]):
        (Path(corpus) / str(number)).write_bytes(seed)
    words = [
        f"-max_total_time={seconds}",
        "-max_len=20000",
        "-rss_limit_mb=1500",
        "-timeout=30",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *words, f"-artifact_prefix={corpus}/", corpus], one)
    atheris.Fuzz()  # ends the process by itself


if __name__ == "__main__":
    main()
