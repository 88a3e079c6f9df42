"""Beam search of one request, in processor seconds: the engine's, one greedy row and as many rows
as there are beams beside it; with --peers transformers' in fp32, and OpenVINO GenAI's in int8.

    python -m bench.beams --bundle DIR [--beams 4] [--context 128] [--tokens 64] [--rounds 3]
        [--peers]

All write `tokens` tokens after the same prompt, whatever ends there are. Processor time says little
of the machine's other work; wall time is told beside it, and how much others did.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.lineup import openvino_program
from bench.peers.building import Builder
from bench.peers.process import Program, program
from bench.report import Noise, chosen_of, emit, machine, parser, say
from bench.rounds import Schedule, interleave
from bench.step import Bench
from exporters.bundle.starter_folder import starter_source
from exporters.cache import Cache, cache_root
from exporters.progress import Progress
from nsedge.api import Sampling
from nsedge.runtime.decode.sequence import State
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import load
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.settings import EngineSettings

Contender = Callable[[], Awaitable[dict[str, float]]]
Peer = Callable[[tuple[int, ...]], Contender]


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--beams", type=int, default=4)
    made.add_argument("--context", type=int, default=128)
    made.add_argument("--tokens", type=int, default=64)
    made.add_argument("--threads", type=int, default=usable_cores(), help="of every contender")
    made.add_argument("--peers", action="store_true", help="measure them too")
    options = made.parse_args()
    emit(asyncio.run(measure(options)), options.json)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All contenders, in turn."""
    settings = EngineSettings(
        slots=options.beams, context_tokens=2048, threads=options.threads, prefill_chunk_tokens=128
    )
    resident = load(
        options.bundle, Host(settings=settings, deliver=lambda _: None, clock=time.perf_counter)
    )
    greedy = Sampling(temperature=0.0, ignore_eos=True)
    bench = Bench(resident, rows=options.beams, chunk=128, sampling=greedy)
    ids = np.random.default_rng(1).integers(500, resident.manifest.vocab_size, options.context)
    prompt = tuple(ids.tolist())
    search = Sampling(beams=options.beams, ignore_eos=True)
    contenders = {
        "greedy": _ours(bench, greedy, prompt, options.tokens),
        "rows": _ours(bench, greedy, prompt, options.tokens, requests=options.beams),
        "beams": _ours(bench, search, prompt, options.tokens),
    }
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="nsedge-beams-") as folder:
        async with _peers(options, Path(folder)) as peers:
            for name, run in peers.items():
                contenders[name] = run(prompt)
            schedule = Schedule(rounds=options.rounds, extra=0)
            rounds = await interleave(contenders, schedule, Noise)
    for name in contenders:
        told = rounds.of(name)
        found[name] = {key: statistics.median(one[key] for one in told) for key in sorted(told[0])}
        say(f"{name:12}" + "".join(f"  {key} {value:.3f}" for key, value in found[name].items()))
    return {
        "bench": "beams",
        "machine": machine(),
        "options": chosen_of(options),
        "others_cores": rounds.noise(),
        "seconds": found,
    }


def _ours(
    bench: Bench, sampling: Sampling, prompt: tuple[int, ...], tokens: int, requests: int = 1
) -> Contender:
    """Have requests written, to their ends."""

    async def run() -> dict[str, float]:
        bench.sampling = sampling
        runner = bench.runner
        model_s, copy_s = runner.model_s, runner.copy_s
        began_s, cpu_s = time.perf_counter(), time.process_time()
        jobs = [bench.submit(prompt, tokens) for _ in range(requests)]
        while any(job.sequence.state is not State.ENDED for job in jobs):
            bench.step()
        return {
            "wall": time.perf_counter() - began_s,
            "cpu": time.process_time() - cpu_s,
            "model": runner.model_s - model_s,
            "copies": runner.copy_s - copy_s,
        }

    return run


@contextlib.asynccontextmanager
async def _peers(options: argparse.Namespace, folder: Path) -> AsyncIterator[dict[str, Peer]]:
    """Their searches by name, once they are told the prompt."""
    if not options.peers:
        yield {}
        return
    cache = Cache(cache_root(), Progress(sys.stderr))
    source = starter_source(cache).folder
    peer = openvino_program(Builder(cache, machine()["cpu"]), source)
    arguments = (peer.model, options.beams, 2048, options.threads)
    log = folder / "programs.log"
    async with (
        program("openvino", arguments, python=peer.python, log=log) as theirs,
        program("transformers", (source, options.threads), log=log) as others,
    ):

        def asking(of: Program) -> Peer:
            async def search(prompt: tuple[int, ...]) -> dict[str, float]:
                return await of.do("search", ids=prompt, beams=options.beams, tokens=options.tokens)

            return lambda prompt: partial(search, prompt)

        yield {"openvino": asking(theirs), "transformers": asking(others)}


if __name__ == "__main__":
    main()
