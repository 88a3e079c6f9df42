"""The cost of models in memory: accounts against RSS, loads and unloads over and over, cold starts.

    python -m bench.residency --bundle DIR [--cycles 50] [--rounds 5]

- cycles: the model is loaded, answers requests of several lengths at once, and is unloaded;
  resident memory before and after each, and how far the stats are from what it grew by.
- cold starts: from the bundle to the first token, with the files in the page cache and without
  (posix_fadvise DONTNEED), of which loading and prefill.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path
from typing import Any

from bench.report import Noise, emit, parser, percentiles, say
from nsedge.api import Delta, Event, Failed, Generate, LoadWish, Request, Sampling, is_terminal
from nsedge.bundle.manifest import Bundle
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.runtime.machine.footprint import rss_bytes
from nsedge.runtime.settings import EngineSettings

MIB = 2**20
TEXT = "Write down wind and weather. "
LENGTHS = (1, 4, 16, 64, 1, 4, 16, 64, 128, 200)
"""How often each of a cycle's prompts says TEXT, seven tokens."""
TOKENS = 48


async def answer(service: LocalService, model: str, label: str, repeats: int) -> float:
    """Run a request to its end; the seconds to its first piece of text."""
    began_s, first_s = time.perf_counter(), 0.0
    done = asyncio.Event()
    failures: list[Failed] = []

    def sink(event: Event) -> None:
        nonlocal first_s
        ticket.took(event)
        if isinstance(event, Delta) and not first_s:
            first_s = time.perf_counter() - began_s
        if isinstance(event, Failed):
            failures.append(event)
        if is_terminal(event):
            done.set()

    sampling = Sampling(temperature=0.0, max_tokens=TOKENS, ignore_eos=True)
    task = Generate(text=TEXT * repeats, sampling=sampling)
    request = Request(request_id=label, model=model, task=task)
    ticket = service.submit(request, sink)
    await done.wait()
    if failures:
        raise RuntimeError(f"request {label} failed: {failures[0].message}")
    return first_s


async def cycle(service: LocalService, model: str, number: int) -> dict[str, float]:
    """Load, answer, unload; bytes before, while it is there, and after."""
    before = rss_bytes()
    began_s = time.perf_counter()
    await service.load(LoadWish(model=model))
    load_s = time.perf_counter() - began_s
    await asyncio.gather(
        *(answer(service, model, f"{number}-{n}", length) for n, length in enumerate(LENGTHS))
    )
    held = (await service.stats()).models[model].memory
    grown = rss_bytes() - before
    if held is None:
        raise RuntimeError("the stats do not say what the model holds")
    told = held.weights_bytes + held.kv_bytes + held.arena_bytes
    await service.unload(model)
    return {
        "load_s": load_s,
        "before": before,
        "grown": grown,
        "told": told,
        "error": (told - grown) / grown,
        "after": rss_bytes(),
    }


def forget_files(bundle: Path) -> None:
    """Have the kernel drop the bundle's files from its page cache."""
    os.sync()
    for name in Bundle.open(bundle).manifest.files:
        descriptor = os.open(bundle / name, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


async def cold_start(service: LocalService, model: str, bundle: Path, *, cold: bool) -> Any:
    """Seconds from a request for a model on disk to its first text, and of that the load."""
    if cold:
        forget_files(bundle)
    first_s = await answer(service, model, "cold", 1)
    (info,) = await service.models()
    await service.unload(model)
    return first_s, info.load_s


async def run(bundle: Path, cycles: int, rounds: int) -> dict[str, Any]:
    """Every measurement, in one process."""
    name = Bundle.open(bundle).manifest.name
    settings = ServiceSettings(bundles=(bundle,), required=frozenset(), engine=EngineSettings())
    service = LocalService(settings)
    await service.start()
    await service.unload(name)
    await cycle(service, name, -1)  # libraries and allocators reach their size
    noise = Noise()
    found = []
    for number in range(cycles):
        found.append(await cycle(service, name, number))
        one = found[-1]
        say(
            f"cycle {number}: {one['before'] / MIB:.1f} MiB, grew {one['grown'] / MIB:.1f},"
            f" told {one['told'] / MIB:.1f} ({one['error']:+.1%}), then {one['after'] / MIB:.1f}"
        )
    starts: dict[str, list[Any]] = {"warm": [], "cold": []}
    for _ in range(rounds):
        for kind, times in starts.items():
            times.append(await cold_start(service, name, bundle, cold=kind == "cold"))
    await service.stop()
    return {
        "cycles": found,
        "rss_first": found[0]["before"],
        "rss_last": found[-1]["after"],
        "drift": found[-1]["after"] / found[0]["before"] - 1.0,
        "largest_error": max(abs(one["error"]) for one in found),
        "load_s": percentiles(one["load_s"] for one in found),
        "first_token_s": {
            kind: {
                "median": statistics.median(first for first, _ in times),
                "load_median": statistics.median(load_s for _, load_s in times),
                "all": [first for first, _ in times],
            }
            for kind, times in starts.items()
        },
        "others_cores": noise.others(),
    }


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--cycles", type=int, default=50)
    given = options.parse_args()
    result = asyncio.run(run(given.bundle, given.cycles, given.rounds))
    emit({"bench": "residency", "bundle": given.bundle.name, **result}, given.json)
    say(
        f"after {given.cycles} cycles {result['drift']:+.1%} of resident memory; accounts within"
        f" {result['largest_error']:.1%}"
    )
    for kind, times in result["first_token_s"].items():
        say(f"{kind}: first token after {times['median']:.2f} s, load {times['load_median']:.2f} s")


if __name__ == "__main__":
    main()
