"""Vectors of texts: the daemon with clients over ZeroMQ and HTTP, beside sentence-transformers.

Each client asks for one text after another, of mixed lengths. sentence-transformers has no server:
it is called in its own process with as many texts at a time as there are clients, and with all of
them at once. With --beside the streams of a text model are measured, too, while the clients work
and while they rest.

    python -m bench.embed [--rounds 5] [--clients 32] [--beside] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import hashlib
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.daemon import Daemon, daemon
from bench.doors import Trace, ZmqDoor
from bench.peers import sentences
from bench.peers.building import Builder
from bench.peers.process import Program, program
from bench.report import Noise, chosen_of, emit, machine, own_cpu_s, say
from bench.rounds import QUIET_CORES, Rounds, Schedule, interleave, paired_ratio
from bench.workload import Writer
from exporters.bundle import starter
from exporters.cache import Cache, cache_root, home
from exporters.encoder import starter as encoder_starter
from exporters.encoder.starter_folder import VECTORS
from exporters.encoder.texts import calibration_texts, fidelity_texts
from exporters.encoder.verify import open_reader
from exporters.progress import Progress
from nsedge.bundle.encoder import Encoder
from nsedge.bundle.manifest import Bundle
from nsedge.errors import ContextExceeded
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.cores import usable_cores

OURS = "nsedge ZeroMQ"
OVER_HTTP = "nsedge HTTP"
PEER = "sentence-transformers"
AT_ONCE = "sentence-transformers, all at once"
BATCH = 32
"""Texts that sentence-transformers runs at once, as it does where nobody says otherwise."""
PROMPT_TOKENS = 50
QUIET, BESIDE = "quiet", "beside"


def main() -> None:
    """Measure and print."""
    options = _options()
    emit(asyncio.run(measure(options)), options.json)


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--rounds", type=int, default=5, help="interleaved rounds that count")
    made.add_argument("--extra", type=int, default=5, help="rounds to replace disturbed ones")
    made.add_argument("--clients", type=int, default=32)
    made.add_argument("--texts", type=int, default=512, help="of each contender in a round")
    made.add_argument("--threads", type=int, default=usable_cores(), help="of every contender")
    made.add_argument("--beside", action="store_true", help="text streams, too")
    made.add_argument("--streams", type=int, default=4, help="at once")
    made.add_argument("--tokens", type=int, default=100, help="of each stream in a round")
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    return made.parse_args()


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for."""
    cache = Cache(cache_root(), Progress(sys.stderr))
    place = home() / "bundles" / encoder_starter.NAME
    encoder = encoder_starter.export_encoder_starter(cache, place).bundle
    described = machine()
    python = sentences.environment(Builder(cache, described["cpu"]))
    schedule = Schedule(rounds=options.rounds, extra=options.extra)
    texts = workload(encoder, options.texts)
    with tempfile.TemporaryDirectory(prefix="nsedge-embed-") as folder:
        log = Path(folder, "programs.log")
        peer = program(
            "sentences",
            (VECTORS.source(cache).folder, options.threads),
            python=python,
            log=log,
        )
        async with (
            daemon(encoder, threads=options.threads) as found,
            _clients(found, found.model, log) as ours,
            peer as theirs,
        ):
            speed = await _speed(ours, theirs, texts, options, schedule)
        beside = await _beside(cache, encoder, texts, options, schedule, log)
    manifest = Bundle.open(encoder).of_kind(Encoder).manifest
    return {
        "bench": "embed",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "peers": sentences.VERSIONS,
        "options": chosen_of(options),
        "quiet_cores": QUIET_CORES,
        "model": manifest.name,
        "variant": manifest.variants[0].name,
        "tokens": _lengths(encoder, texts),
        "speed": speed,
        "beside": beside,
    }


def workload(encoder: Path, count: int) -> list[str]:
    """`count` texts that the model reads whole: passages, their paragraphs and sentences, in an
    order that has nothing to do with length, and is the same in every run."""
    reader = open_reader(Bundle.open(encoder).of_kind(Encoder))

    def whole(text: str) -> bool:
        try:
            reader.read([text], truncate=False)
        except ContextExceeded:
            return False
        return True

    known = sorted(
        filter(whole, {*fidelity_texts(), *calibration_texts()}),
        key=lambda text: hashlib.sha256(text.encode()).digest(),
    )
    return list(itertools.islice(itertools.cycle(known), count))


def _lengths(encoder: Path, texts: list[str]) -> dict[str, float]:
    """Of the texts in tokens, as the model reads them."""
    reader = open_reader(Bundle.open(encoder).of_kind(Encoder))
    lengths = [len(ids) for ids in reader.read(texts, truncate=False)]
    return {
        "least": min(lengths),
        "median": statistics.median(lengths),
        "mean": round(statistics.mean(lengths), 1),
        "most": max(lengths),
    }


def _clients(
    found: Daemon, model: str, log: Path
) -> contextlib.AbstractAsyncContextManager[Program]:
    return program("embedding", (found.endpoint, found.url, model), log=log)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of one contender in one round; cores: processor seconds a second, of it and its clients."""

    texts_per_s: float
    cores: float

    @property
    def texts_per_core_s(self) -> float:
        """Texts per second of processor time: others on the machine do not change it."""
        return self.texts_per_s / self.cores


async def _speed(
    ours: Program,
    theirs: Program,
    texts: list[str],
    options: argparse.Namespace,
    schedule: Schedule,
) -> dict[str, Any]:
    """Every contender's speed, and ours over theirs, by round."""

    def timed(program: Program, **how: Any) -> Callable[[], Awaitable[Speed]]:
        async def run() -> Speed:
            before_s, began_s = own_cpu_s(), time.perf_counter()
            told = await program.do("embed", texts=texts, **how)
            cores = (own_cpu_s() - before_s) / (time.perf_counter() - began_s)
            return Speed(texts_per_s=told["texts_per_s"], cores=cores)

        return run

    contenders = {
        OURS: timed(ours, clients=options.clients, http=False),
        OVER_HTTP: timed(ours, clients=options.clients, http=True),
        PEER: timed(theirs, batch=BATCH, at_once=options.clients),
        AT_ONCE: timed(theirs, batch=BATCH, at_once=len(texts)),
    }
    rounds = await interleave(contenders, schedule, Noise)
    found: dict[str, Any] = {}
    for figure in ("texts_per_s", "texts_per_core_s"):
        by_round = {name: [getattr(one, figure) for one in rounds.of(name)] for name in contenders}
        found[figure] = {name: _cell(values) for name, values in by_round.items()}
        found[f"{figure}_ratios"] = {
            f"{name} / {peer}": round(paired_ratio(by_round[name], by_round[peer]), 3)
            for name in (OURS, OVER_HTTP)
            for peer in (PEER, AT_ONCE)
        }
        for name, cell in found[figure].items():
            say(f"  {name:36} {cell['median']:.1f} {figure}")
        for name, ratio in found[f"{figure}_ratios"].items():
            say(f"  {name}: {ratio:.2f}")
    return {**found, **_noise(rounds)}


async def _beside(
    cache: Cache,
    encoder: Path,
    texts: list[str],
    options: argparse.Namespace,
    schedule: Schedule,
    log: Path,
) -> dict[str, Any] | None:
    """The p99 of seconds between a stream's tokens, quiet and beside clients that embed."""
    if not options.beside:
        return None
    text = starter.export_starter(cache, home() / "bundles" / starter.NAME).bundle
    async with (
        daemon(text, encoder, threads=options.threads, slots=options.streams) as found,
        AsyncClient(found.endpoint) as client,
        _clients(found, Bundle.open(encoder).name, log) as embedding,
    ):
        door, writer = ZmqDoor(client, found.model), Writer.of(text)
        rates: list[float] = []

        async def quiet() -> float:
            prompts = writer.prompts(count=options.streams, tokens=PROMPT_TOKENS)
            asked = (door.ask(prompt, options.tokens, Trace()) for prompt in prompts)
            gaps = [gap for trace in await asyncio.gather(*asked) for gap in trace.gaps_s]
            return statistics.quantiles(gaps, n=100)[-1]

        async def beside() -> float:
            await embedding.do("work", texts=texts, clients=options.clients)
            try:
                return await quiet()
            finally:
                told = await embedding.do("rest")
                rates.append(told["texts"] / told["seconds"])

        contenders: Mapping[str, Callable[[], Awaitable[float]]] = {QUIET: quiet, BESIDE: beside}
        rounds = await interleave(contenders, schedule, Noise)
    ratio = round(paired_ratio(rounds.of(BESIDE), rounds.of(QUIET)), 3)
    say(f"  inter-token p99 beside {options.clients} clients: {ratio:.2f} times that of quiet")
    return {
        "streams": options.streams,
        "inter_token_p99_s": {name: _cell(rounds.of(name), digits=5) for name in contenders},
        "ratio": ratio,
        "texts_per_s": round(statistics.median(rates), 1),
        **_noise(rounds),
    }


def _cell(found: Sequence[float], *, digits: int = 1) -> dict[str, Any]:
    return {
        "median": round(statistics.median(found), digits),
        "rounds": [round(value, digits) for value in found],
    }


def _noise(rounds: Rounds[Any]) -> dict[str, Any]:
    """The share of the machine that others took, and whether rounds with a large one count."""
    noise = rounds.noise()
    return {
        "others_cores": [round(value, 3) for value in noise],
        "kept_rounds": list(rounds.kept),
        "disturbed": any(noise[number] > QUIET_CORES for number in rounds.kept),
    }


if __name__ == "__main__":
    main()
