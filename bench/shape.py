"""Random weights in the shape of Llama-3.2-1B, 4-bit on both sides, against llama.cpp: speed only.

Both models are made at the first run and kept below --cache: ours by the exporters in int4 with an
8-bit embedding and head, llama.cpp's in Q4_0 with those in Q6_K, as llama-quantize makes it. Rounds
are interleaved; a round of either is a prompt a stream, then tokens for all streams together.

    python -m bench.shape --peer DIR-OF-llama-batched-bench --cache DIR [--block 32] [--rounds 5]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench import bandwidth
from bench.peers.batched import PROGRAM, Batched
from bench.random_weights import bundle_of, four_bits, gguf_of
from bench.report import Noise, chosen_of, emit, say
from bench.step import GREEDY, Bench
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import load
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.settings import EngineSettings

LABEL = "random weights: speed only"


def measure(options: argparse.Namespace, bench: Bench, bundle: Path) -> dict[str, Any]:
    """All rounds, both engines and all numbers of streams interleaved."""
    streams = [int(count) for count in options.streams.split(",")]
    model = gguf_of(options.cache)
    llama = Batched(options.peer, model, context=options.context, tokens=options.tokens)
    ours: dict[int, list[float]] = defaultdict(list)
    theirs: dict[int, list[float]] = defaultdict(list)
    noise, read = [], []
    with bandwidth.reading(threads=usable_cores()) as reader:
        for _ in range(options.rounds):
            watch = Noise()
            for count in streams:
                run = functools.partial(bench.decode, count, options.context, options.tokens)
                figures, bytes_per_s = bandwidth.beside(reader, run)
                ours[count].append(figures["tokens_per_s"])
                theirs[count].append(llama.decode(count))
                if count == 1:
                    read.append(bytes_per_s)
            noise.append(watch.others())
    size = bandwidth.weight_bytes(bundle / bench.resident.variant.graph)
    decode = {count: _compared(ours[count], theirs[count]) for count in streams}
    return {
        "decode": decode,
        "variant": bench.resident.variant.name,
        "bound": bandwidth.bound(size, ours[1], read) if read else None,
        "bytes": {"nsedge": _size(bundle), "llama.cpp": model.stat().st_size},
        "others_cores": noise,
    }


def _compared(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    return {
        "tokens_per_s": statistics.median(ours),
        "llama_tokens_per_s": statistics.median(theirs),
        "ratio": statistics.median(o / t for o, t in zip(ours, theirs, strict=True)),
        "tokens_per_s_rounds": ours,
        "llama_tokens_per_s_rounds": theirs,
    }


def _size(bundle: Path) -> int:
    return sum(path.stat().st_size for path in bundle.glob("cpu/*"))


def main() -> None:
    """Make the models, measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peer", type=Path, required=True, help=f"where {PROGRAM} is")
    arguments.add_argument("--cache", type=Path, required=True, help="where the models are kept")
    arguments.add_argument("--block", type=int, default=32, help="weights that share a scale")
    arguments.add_argument("--streams", default="1,8")
    arguments.add_argument("--context", type=int, default=64)
    arguments.add_argument("--tokens", type=int, default=16)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = arguments.parse_args()
    bundle = bundle_of(four_bits(options.block), options.cache)
    rows = max(int(count) for count in options.streams.split(","))
    settings = EngineSettings(slots=rows, context_tokens=512)
    resident = load(bundle, Host(settings=settings, deliver=_ignore, clock=time.perf_counter))
    bench = Bench(resident, rows=rows, chunk=settings.prefill_chunk_tokens, sampling=GREEDY)
    result = measure(options, bench, bundle)
    say(LABEL)
    for count, figures in result["decode"].items():
        say(
            f"{count:3} streams  {figures['tokens_per_s']:7.1f} tokens/s,"
            f" llama.cpp Q4_0 {figures['llama_tokens_per_s']:7.1f}, ratio {figures['ratio']:.2f}"
        )
    say(f"variant {result['variant']}")
    if result["bound"] is not None:
        say(bandwidth.told(result["bound"]))
    described = chosen_of(options)
    emit({"bench": "shape", "label": LABEL, "options": described, **result}, options.json)


def _ignore(_: object) -> None:
    """Where the engine's events go."""


if __name__ == "__main__":
    main()
