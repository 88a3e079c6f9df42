"""Every scheme of the starter model, or of a GGUF file: size, nearness to fp32, decode and prefill.

    python -m bench.schemes [--schemes int8-b64,w8a8] [--rows 1,8,16] [--rounds 5] [--json FILE]
    python -m bench.schemes --gguf FILE --schemes gguf,int8-b64 [--peer DIR-OF-llama-batched-bench]

Bundles are made (from the exporter's cache where they were made before), every variant of each is
loaded, and rounds go over all of them in turn. Speeds are the engine's alone, medians of rounds.
llama.cpp, where it is to be beside them, runs the file as it is.
On a machine that is shared, `--cpu --threads 1` counts processor time instead, and the best round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.peers.batched import Batched
from bench.report import Noise, chosen_of, emit, say
from bench.step import GREEDY, Bench
from exporters.bundle.build import export_bundle
from exporters.bundle.orders import Order, one_variant
from exporters.bundle.starter import export_starter
from exporters.cache import Cache, cache_root
from exporters.gguf.importing import built, gguf_source
from exporters.progress import Progress
from exporters.quantise.schemes import SCHEMES, Device, KvFormat, Scheme
from nsedge.bundle.causal_lm import Variant
from nsedge.bundle.manifest import open_causal_lm
from nsedge.runtime.hosting.hosted import Host, Opening
from nsedge.runtime.hosting.text import TextModel
from nsedge.runtime.settings import EngineSettings

PEER = "llama.cpp"
Clock = Callable[[], float]
COLUMNS = ("variant", "MB", "KL, nats", "top-1", "perplexity")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A variant in memory, and its bytes on disk."""

    scheme: str
    variant: Variant
    size: int
    bench: Bench


def open_entries(folder: Path, schemes: list[str], rows: int, options: Any) -> list[Entry]:
    """Make the bundle of each scheme below `folder` and load all its variants."""
    cache = Cache(cache_root(), Progress(sys.stderr))
    settings = EngineSettings(
        slots=rows,
        prefill_chunk_tokens=options.chunk,
        context_tokens=options.capacity,
        threads=options.threads,
    )
    entries = []
    for scheme in schemes:
        bundle = open_causal_lm(made(SCHEMES[scheme], folder / scheme, cache, options.gguf))
        variants = bundle.manifest.variants
        for variant in variants[:1] if options.preferred else variants:
            resident = TextModel(
                bundle=bundle,
                variant=variant,
                host=Host(settings=settings, deliver=lambda _: None, clock=time.perf_counter),
                opening=Opening(),
            )
            bench = Bench(resident, rows=rows, chunk=options.chunk, sampling=GREEDY)
            size = sum(entry.bytes for entry in bundle.manifest.files.values())
            entries.append(Entry(scheme=scheme, variant=variant, size=size, bench=bench))
    return entries


def made(scheme: Scheme, out: Path, cache: Cache, file: Path | None) -> Path:
    """The bundle of a scheme at `out`: of the starter, or of a GGUF file."""
    order = one_variant(scheme, KvFormat.FLOAT32, Device.CPU)
    if file is None:
        return export_starter(cache, out, variants=(order,)).bundle
    source = gguf_source(file, cache)
    whole = Order(source=source, variants=(order,), route=built(source.file))
    return export_bundle(whole, out, name=scheme.name, cache=cache).bundle


def decode(bench: Bench, rows: int, options: Any, clock: Clock) -> float:
    """Tokens/s of `rows` rows, each after a prompt."""
    prompt, room = tuple(range(100, 100 + options.context)), options.capacity - options.context
    jobs = [bench.submit(prompt, room) for _ in range(rows)]
    while not all(job.sequence.output_ids for job in jobs):
        bench.step()
    bench.step()
    began = clock()
    for _ in range(options.tokens):
        bench.step()
    rate = float(rows * options.tokens / (clock() - began))
    for job in jobs:
        bench.engine.cancel(job)
    bench.step()
    return rate


def prefill(bench: Bench, options: Any, clock: Clock) -> float:
    """Tokens/s of reading one prompt."""
    job = bench.submit(tuple(range(100, 100 + options.prefill)), 1)
    began = clock()
    while not job.sequence.output_ids:
        bench.step()
    return float(options.prefill / (clock() - began))


def measure(
    entries: list[Entry], peer: Batched | None, rows: list[int], options: Any
) -> dict[str, Any]:
    """All rounds, the variants in turn; tokens/s of each round by variant."""
    clock = time.process_time if options.cpu else time.perf_counter
    decoded: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    read: dict[str, list[float]] = defaultdict(list)
    noise = []
    for _ in range(options.rounds):
        watch = Noise()
        for entry in entries:
            name = entry.variant.name
            for count in rows:
                decoded[name][count].append(decode(entry.bench, count, options, clock))
            read[name].append(prefill(entry.bench, options, clock))
        if peer is not None:
            for count in rows:
                decoded[PEER][count].append(peer.decode(count))
            read[PEER].append(peer.prefill(options.prefill))
        noise.append(watch.others())
    return {"decode": decoded, "prefill": read, "others_cores": noise}


def tell(entry: Entry, rounds: dict[str, Any], *, cpu: bool) -> dict[str, Any]:
    """The figures of one variant; of processor time, which others only add to, the best round."""
    return {
        "variant": entry.variant.name,
        "scheme": entry.scheme,
        "bytes": entry.size,
        "fidelity": msgspec.to_builtins(entry.variant.fidelity),
        **speeds(entry.variant.name, rounds, cpu=cpu),
    }


def speeds(name: str, rounds: dict[str, Any], *, cpu: bool) -> dict[str, Any]:
    """Tokens/s of one contender."""
    summary = max if cpu else statistics.median
    decoded = rounds["decode"][name]
    return {
        "decode_tokens_per_s": {rows: summary(rates) for rows, rates in decoded.items()},
        "prefill_tokens_per_s": summary(rounds["prefill"][name]),
    }


def table(results: list[dict[str, Any]], rows: list[int], prefill: int) -> list[str]:
    """The results as lines of a Markdown table."""
    speeds = [*(f"{count} rows" for count in rows), f"prefill {prefill}"]
    lines = ["| " + " | ".join([*COLUMNS, *speeds]) + " |"]
    lines.append("|" + "---|" * (len(COLUMNS) + len(speeds)))
    for result in results:
        near = result["fidelity"] or {}
        cells = [
            f"`{result['variant']}`",
            f"{result['bytes'] / 1e6:.0f}",
            f"{near.get('kl', float('nan')):.4f}",
            f"{near.get('top1', float('nan')):.3f}",
            f"{near.get('perplexity', float('nan')):.2f}",
            *(f"{rate:.0f}" for rate in result["decode_tokens_per_s"].values()),
            f"{result['prefill_tokens_per_s']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def peer_of(options: Any) -> Batched | None:
    """llama.cpp, where it was asked for."""
    if options.peer is None:
        return None
    return Batched(options.peer, options.gguf, context=options.context, tokens=options.tokens)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--gguf", type=Path, help="a file in the starter's place")
    parser.add_argument("--peer", type=Path, help="where llama-batched-bench is; needs --gguf")
    parser.add_argument("--preferred", action="store_true", help="only what a daemon here takes")
    parser.add_argument("--rows", default="1,8,16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--capacity", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--prefill", type=int, default=256)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    parser.add_argument("--cpu", action="store_true", help="count processor time, best round")
    parser.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = parser.parse_args()
    if options.peer is not None and options.gguf is None:
        parser.error("--peer needs --gguf")
    rows = [int(count) for count in options.rows.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        entries = open_entries(Path(folder), options.schemes.split(","), max(rows), options)
        peer = peer_of(options)
        rounds = measure(entries, peer, rows, options)
    results = [tell(entry, rounds, cpu=options.cpu) for entry in entries]
    if peer is not None:
        size, told = options.gguf.stat().st_size, speeds(PEER, rounds, cpu=options.cpu)
        results.append({"variant": PEER, "bytes": size, "fidelity": None, **told})
    for line in table(results, rows, options.prefill):
        say(line)
    described = chosen_of(options)
    emit(
        {"bench": "schemes", "options": described, "results": results, "rounds": rounds},
        options.json,
    )


if __name__ == "__main__":
    main()
