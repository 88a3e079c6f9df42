"""How fast this machine reads memory, and what that allows: at one row every step reads all weights
once, so that tokens/s cannot be above bandwidth / bytes of weights.

    python -m bench.bandwidth [--threads 2] [--rounds 100] [--bundle DIR]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.report import machine, say
from exporters.graph import Graph
from nsedge.bundle import Bundle
from nsedge.runtime.cores import usable_cores

SOURCE = Path(__file__).with_suffix(".c")
ROUNDS = 100
NUMPY_BYTES = 256 << 20
NO_FULL_READ = frozenset(
    {"CachedAttention", "Gather", "GatherBlockQuantized", "GroupQueryAttention", "Reshape"}
)
"""Nodes that read a few rows of their constants a step, or a shape."""


@dataclass(frozen=True, kw_only=True)
class Bandwidth:
    """Bytes/s read by `threads` at once, and by what it was measured."""

    bytes_per_s: float
    threads: int
    by: str

    def bound(self, weight_bytes: int) -> float:
        """Tokens/s that one row cannot exceed."""
        return self.bytes_per_s / weight_bytes


def measure(*, threads: int, rounds: int = ROUNDS) -> Bandwidth:
    """The best of many short rounds: by a small C program, or by NumPy where no compiler is."""
    compiler = shutil.which("cc")
    if compiler is None:
        return Bandwidth(bytes_per_s=_numpy_rate(threads, rounds), threads=threads, by="numpy")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "bandwidth")
        options = ["-O3", "-march=native", "-pthread", "-o", str(program)]
        subprocess.run([compiler, *options, str(SOURCE)], check=True)
        command = [str(program), str(threads), str(rounds)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Bandwidth(bytes_per_s=float(told.split()[0]), threads=threads, by="C")


def _numpy_rate(threads: int, rounds: int) -> float:
    """A reduction releases the interpreter lock, and one core's reads keep ahead of its sums."""
    parts = np.array_split(np.ones(NUMPY_BYTES // 8, np.int64), threads)

    def read(part: NDArray[np.int64]) -> None:
        np.bitwise_xor.reduce(part)

    best = 0.0
    for _ in range(rounds):
        readers = [threading.Thread(target=read, args=(part,)) for part in parts]
        began = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = max(best, NUMPY_BYTES / (time.perf_counter() - began))
    return best


def weight_bytes(graph: Path) -> int:
    """Bytes of the constants that a step of one row reads from end to end."""
    opened = Graph.load(graph)
    read = {
        name
        for node in opened.nodes
        if node.op_type not in NO_FULL_READ
        for name in node.input
        if name in opened.weights
    }
    return sum(opened.weights[name].nbytes for name in read)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=usable_cores())
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--bundle", type=Path, help="tell the bound for this bundle, too")
    options = arguments.parse_args()
    found = measure(threads=options.threads, rounds=options.rounds)
    say(f"{found.threads} threads read {found.bytes_per_s / 1e9:.1f} GB/s (by {found.by})")
    result = {"machine": machine(), "bench": "bandwidth", "bytes_per_s": found.bytes_per_s}
    if options.bundle is not None:
        bundle = Bundle.open(options.bundle)
        size = weight_bytes(bundle.file(bundle.manifest.variants[0].graph))
        say(f"one row reads {size / 1e6:.0f} MB a step: at most {found.bound(size):.1f} tokens/s")
        result |= {"weight_bytes": size, "bound_tokens_per_s": found.bound(size)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
