"""How fast this machine reads memory, and what that allows: at one row every step reads all weights
once, so that tokens/s cannot be above bandwidth / bytes of weights.

    python -m bench.bandwidth [--threads 2] [--rounds 30] [--bundle DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.programs import compiled
from bench.report import machine, say
from exporters.graph.graph import Graph, attribute
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.machine.cores import usable_cores

T = TypeVar("T")
Side = NDArray[Any] | None
SOURCE = Path(__file__).with_suffix(".c")
ROUNDS = 30
NUMPY_BYTES = 256 << 20
FEWER_BITS = {32: 5, 16: 6}
"""In which a product of our own packs 8-bit weights that are near their middle, by block."""
NO_FULL_READ = frozenset(
    {
        "BlockRows",
        "CachedAttention",
        "Gather",
        "GatherBlockQuantized",
        "GroupQueryAttention",
        "Reshape",
    }
)
"""Nodes that read a few rows of their constants a step, or a shape."""


Read = Callable[[], float]
"""Bytes/s that are read now: the median of many short rounds."""


@contextlib.contextmanager
def reading(*, threads: int, rounds: int = ROUNDS) -> Iterator[Read]:
    """Ready to read memory with `threads` at once: by a small C program, or by NumPy where no
    compiler is. Memory is as fast as its other users leave it: read again beside what is compared.
    """
    with compiled(SOURCE) as program:
        if program is None:
            yield functools.partial(_numpy_rate, threads, rounds)
            return
        command = [str(program), str(threads), str(rounds)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
            yield functools.partial(_ask, running)


def beside(read: Read, run: Callable[[], T]) -> tuple[T, float]:
    """The result of `run`, and the mean of the bytes/s that were read before and after it."""
    before = read()
    given = run()
    return given, (before + read()) / 2


def _ask(program: subprocess.Popen[str]) -> float:
    if program.stdin is None or program.stdout is None:
        raise SystemExit("the program that reads memory was started without pipes")
    program.stdin.write("\n")
    program.stdin.flush()
    return float(program.stdout.readline())


def _numpy_rate(threads: int, rounds: int) -> float:
    """A reduction releases the interpreter lock, and one core's reads keep ahead of its sums."""
    parts = np.array_split(np.ones(NUMPY_BYTES // 8, np.int64), threads)

    def read(part: NDArray[np.int64]) -> None:
        np.bitwise_xor.reduce(part)

    rates = []
    for _ in range(rounds):
        readers = [threading.Thread(target=read, args=(part,)) for part in parts]
        began = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        rates.append(NUMPY_BYTES / (time.perf_counter() - began))
    return statistics.median(rates)


def weight_bytes(graph: Path) -> int:
    """Bytes of the constants that a step of one row reads from end to end, as memory holds them."""
    opened = Graph.load(graph)
    read: set[str] = set()
    packed = 0
    for node in opened.nodes:
        if node.op_type == "BlockMatMul":
            given = (opened.weights.get(name) for name in (*node.input[1:5], "", "")[:4])
            packed += _packed_bytes(attribute(node, "bits"), attribute(node, "block_size"), *given)
        elif node.op_type not in NO_FULL_READ:
            read.update(name for name in node.input if name in opened.weights)
    return packed + sum(opened.weights[name].nbytes for name in read)


def _packed_bytes(
    bits: int, block: int, values: Side, scales: Side, zeros: Side, offsets: Side
) -> int:
    """Of a product of our own: its quantised values, in as few bits as it packs them in; beside
    them scales, and as many offsets where there are zero points or offsets, all in halves where
    those are exact."""
    if values is None or scales is None:
        raise SystemExit("a product's weights are no constants")
    packed = bits
    if bits == 8 and (fewer := FEWER_BITS.get(block)) is not None:
        reach = 1 << (fewer - 1)
        packed = fewer if values.min() >= 128 - reach and values.max() < 128 + reach else bits
    exact = _are_halves(scales)
    if offsets is not None:
        least = (offsets - np.float32(1 << (packed - 1)) * scales).astype(np.float16)
        again = least.astype(np.float32) + np.float32(1 << (packed - 1)) * scales
        exact = exact and (_are_halves(offsets) or np.array_equal(again, offsets))
    shifted = zeros is not None or offsets is not None
    return values.nbytes * packed // bits + scales.size * (2 if exact else 4) * (1 + shifted)


def _are_halves(side: NDArray[Any]) -> bool:
    return np.array_equal(side, side.astype(np.float16))


def bound(size: int, rates: Sequence[float], read: Sequence[float]) -> dict[str, Any]:
    """The speed of one row beside the bound of memory: tokens/s of each round, and the bytes/s read
    around it, for `size` bytes of weights; medians."""
    return {
        "bytes_per_s": statistics.median(read),
        "bytes_per_s_rounds": list(read),
        "weight_bytes": size,
        "tokens_per_s": statistics.median(read) / size,
        "share": statistics.median(
            rate * size / bandwidth for rate, bandwidth in zip(rates, read, strict=True)
        ),
    }


def told(figures: dict[str, Any]) -> str:
    """The bound as a line for people."""
    return (
        f"memory {figures['bytes_per_s'] / 1e9:.1f} GB/s: one row at most"
        f" {figures['tokens_per_s']:.1f} tokens/s; {figures['share']:.0%} of it reached"
    )


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=usable_cores())
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--bundle", type=Path, help="tell the bound for this bundle, too")
    options = arguments.parse_args()
    with reading(threads=options.threads, rounds=options.rounds) as read:
        rate = read()
    say(f"{options.threads} threads read {rate / 1e9:.1f} GB/s")
    result = {"machine": machine(), "bench": "bandwidth", "bytes_per_s": rate}
    if options.bundle is not None:
        bundle = Bundle.open(options.bundle)
        size = weight_bytes(bundle.file(bundle.manifest.variants[0].graph))
        say(f"one row reads {size / 1e6:.0f} MB a step: at most {rate / size:.1f} tokens/s")
        result |= {"weight_bytes": size, "bound_tokens_per_s": rate / size}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
