"""The spread that the machine itself gives to work of one size: equal pieces of arithmetic on every
core, and no memory, socket or engine. No engine's latency can spread less than these.

    python -m bench.jitter [--threads 2] [--seconds 0.008] [--pieces 1000]
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from bench.programs import compiled
from bench.report import emit, percentiles, say
from nsedge.runtime.machine.cores import usable_cores

SOURCE = Path(__file__).with_suffix(".c")
PIECE_S = 0.008
"""About a step of the starter with a few rows."""
PIECES = 1000


def measure(*, threads: int, seconds: float = PIECE_S, pieces: int = PIECES) -> dict[str, float]:
    """Percentiles of what the pieces took, in seconds; empty where there is no compiler."""
    with compiled(SOURCE) as program:
        if program is None:
            return {}
        command = [str(program), str(threads), str(seconds), str(pieces)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return percentiles(float(line) for line in told.splitlines())


def told(found: dict[str, float]) -> str:
    """The percentiles as a line for people."""
    if not found:
        return "equal pieces of work: not measured, there is no compiler"
    return (
        f"equal pieces of work: p50 {found['p50'] * 1e3:.1f} ms, p95 {found['p95'] * 1e3:.1f},"
        f" p99 {found['p99'] * 1e3:.1f}, {found['p99'] / found['p50']:.2f} of the median"
    )


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=usable_cores())
    arguments.add_argument("--seconds", type=float, default=PIECE_S, help="of a piece, undisturbed")
    arguments.add_argument("--pieces", type=int, default=PIECES)
    arguments.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = arguments.parse_args()
    found = measure(threads=options.threads, seconds=options.seconds, pieces=options.pieces)
    say(told(found))
    emit({"bench": "jitter", "seconds": found}, options.json)


if __name__ == "__main__":
    main()
