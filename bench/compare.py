"""nsedge beside llama-server, OpenVINO GenAI and onnxruntime-genai, in one run on this machine.

Builds each peer in an environment of its own (kept in the cache), converts the same weights for
all, and runs the contenders in turn, round after round. Rounds in which others used the machine are
run again, up to a bound; all are in the result.

    python -m bench.compare [--quick] [--only streams,engines] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime
import enum
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import engines, jitter, lineup, scenarios
from bench.demands import HEAD, Demand, Roles, demands, rows
from bench.lab import EngineProgram, Lab, disturbed
from bench.peers.building import Builder, command
from bench.peers.process import ROOT
from bench.peers.servers import OurServer
from bench.report import chosen_of, emit, machine, say
from bench.rounds import QUIET_CORES, Schedule
from bench.tables import aligned
from bench.workload import Writer
from exporters.bundle.package import LINKS, variant_digest
from exporters.bundle.starter import NAME, export_starter
from exporters.bundle.verify import reader_of
from exporters.cache import Cache, cache_root, home
from exporters.measure.runner import Runner, runner_of
from exporters.model.texts import fidelity_passages, fidelity_text_sha256
from exporters.progress import Progress
from nsedge.bundle.manifest import TextBundle, open_causal_lm
from nsedge.runtime.machine.cores import usable_cores

MEMORY_ROUNDS = 3


class Scenario(enum.StrEnum):
    """The scenarios that `--only` can name."""

    FIDELITY = "fidelity"
    STREAMS = "streams"
    LONG = "long"
    BARE = "bare"
    ARRIVALS = "arrivals"
    PREFIXES = "prefixes"
    MEMORY = "memory"
    READINESS = "readiness"
    ENGINES = "engines"
    QUEUE = "queue"
    SHAPE = "shape"


def main() -> None:
    """Measure and print."""
    options = _options()
    result, found = asyncio.run(_until_told(options))
    say("\n" + aligned(HEAD, rows(found)))
    if loud := sum(disturbed(cell) for cell in result["cells"]):
        say(
            f"{loud} of {len(result['cells'])} rows come from disturbed rounds: not to be relied on"
        )
    emit(result, options.json)


async def _until_told(options: argparse.Namespace) -> tuple[dict[str, Any], list[Demand]]:
    """Measure; SIGTERM, too, ends every server and tells what was measured until then."""
    task = asyncio.ensure_future(measure(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument(
        "--bundle",
        type=Path,
        action="append",
        help="a bundle made on this machine; the first is compared, others are rows beside it"
        " (default: the starter)",
    )
    made.add_argument("--rounds", type=int, default=5, help="interleaved rounds that count")
    made.add_argument("--extra", type=int, help="rounds to replace disturbed ones; default: twice")
    made.add_argument("--only", default=",".join(Scenario), help="scenarios, by commas")
    made.add_argument("--streams", default="1,4,8,16,32", help="at once, prompts of 100 tokens")
    made.add_argument("--long-streams", default="1,4,8", help="at once, of 450 and of 900 tokens")
    made.add_argument("--rows", default="1,8,16,32", help="batch sizes of the engines in process")
    made.add_argument("--threads", type=int, default=usable_cores(), help="of every contender")
    made.add_argument("--quick", action="store_true", help="one round each: does it run at all")
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    return made.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


async def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Demand]]:
    """Every scenario that was asked for, one after another."""
    cache = Cache(cache_root(), Progress(sys.stderr))
    bundles = options.bundle or [export_starter(cache, home() / "bundles" / NAME).bundle]
    described = machine()
    builder = Builder(cache, f"{described['cpu']} {described['vector']}")
    peers = lineup.build(builder, cache, options.threads)
    wanted = [Scenario(name) for name in options.only.split(",")]
    with tempfile.TemporaryDirectory(prefix="nsedge-compare-") as folder:
        lab = _lab(options, bundles, peers, Path(folder, "programs.log"))
        nearness: dict[str, Any] = {}
        beside: dict[str, Any] = {}
        interrupted = False
        try:
            if Scenario.FIDELITY in wanted:
                nearness = await _fidelity(builder, cache, lab, bundles, peers)
            await _measure(lab, wanted, options, peers)
            await _beside(beside, lab, wanted, bundles[0], peers, Path(folder))
        except asyncio.CancelledError:
            say("interrupted: the result holds what was measured until then")
            interrupted = True
    roles = Roles(ours=lab.servers[0].name, peer=lineup.PEER, engine_peer=lineup.ENGINE_PEER)
    found = demands(lab.cells, roles, beside)
    result = {
        "bench": "compare",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "interrupted": interrupted,
        "peers": lineup.VERSIONS,
        "options": chosen_of(options),
        "quiet_cores": QUIET_CORES,
        "fidelity": nearness,
        "cells": lab.cells,
        "beside": beside,
        "roles": dataclasses.asdict(roles),
        "demands": [{**dataclasses.asdict(d), "reached": d.reached} for d in found],
    }
    return result, found


def _lab(
    options: argparse.Namespace, bundles: Sequence[Path], peers: lineup.Peers, log: Path
) -> Lab:
    extra = 2 * options.rounds if options.extra is None else options.extra
    schedule = Schedule(rounds=options.rounds, extra=extra)
    if options.quick:
        schedule = Schedule(rounds=1, extra=0, warm_up=0)
    names = {bundle: name_of(bundle) for bundle in bundles}
    ours = [
        OurServer(name=name, bundle=path, threads=options.threads) for path, name in names.items()
    ]
    programs = [
        EngineProgram(name=name, program="nsedge", model=path) for path, name in names.items()
    ]
    return Lab(
        servers=(*ours, *peers.servers),
        engines=(*programs, *peers.engines),
        writer=Writer.of(bundles[0]),
        schedule=schedule,
        threads=options.threads,
        log=log,
    )


def name_of(bundle: Path) -> str:
    """The name of a bundle's rows: the scheme of its first variant."""
    return f"nsedge {open_causal_lm(bundle).manifest.variants[0].scheme}"


async def _measure(
    lab: Lab, wanted: Sequence[Scenario], options: argparse.Namespace, peers: lineup.Peers
) -> None:
    few = lab.limited(MEMORY_ROUNDS)
    if Scenario.STREAMS in wanted:
        for count in _numbers(options.streams):
            await scenarios.streams(lab, count=count, prompt_tokens=100)
    if Scenario.LONG in wanted:
        for tokens in (450, 900):
            for count in _numbers(options.long_streams):
                await scenarios.streams(lab.main(lineup.PEER), count=count, prompt_tokens=tokens)
    if Scenario.BARE in wanted:
        await scenarios.share_of_bare(lab, count=16, prompt_tokens=100)
    if Scenario.ARRIVALS in wanted:
        await scenarios.arrivals(lab.main(lineup.PEER))
    if Scenario.PREFIXES in wanted:
        await scenarios.prefixes(lab.main(lineup.PEER))
    if Scenario.MEMORY in wanted:
        await scenarios.memory(few)
    if Scenario.READINESS in wanted:
        await scenarios.readiness(lab)
    if Scenario.ENGINES in wanted:
        await engines.rates(lab, rows_list=_numbers(options.rows), bench=peers.bench)
        await engines.memory(few)


async def _beside(
    results: dict[str, Any],
    lab: Lab,
    wanted: Sequence[Scenario],
    bundle: Path,
    peers: lineup.Peers,
    folder: Path,
) -> None:
    """Add to `results` what the machine does to equal pieces of work, beside which gaps are to be
    read; and the results of the benchmarks that interleave by themselves, each in a process of its
    own."""
    if Scenario.ARRIVALS in wanted:
        results["jitter"] = await asyncio.to_thread(jitter.measure, threads=lab.threads)
        say(jitter.told(results["jitter"]))
    rounds = ["--rounds", str(lab.schedule.rounds)]
    shape_cache = cache_root() / "shape"
    shape_cache.mkdir(parents=True, exist_ok=True)
    commands: dict[Scenario, list[object]] = {
        Scenario.QUEUE: ["bench.queue", "--bundle", bundle],
        Scenario.SHAPE: ["bench.shape", "--peer", peers.tools, "--cache", shape_cache],
    }
    for scenario, words in commands.items():
        if scenario in wanted:
            say(f"{scenario}: python -m {words[0]}")
            file = folder / f"{scenario}.json"
            whole = [sys.executable, "-m", *words, *rounds, "--json", file]
            await asyncio.to_thread(command, whole, cwd=ROOT)
            results[str(scenario)] = json.loads(file.read_text(encoding="utf-8"))


async def _fidelity(
    builder: Builder, cache: Cache, lab: Lab, bundles: Sequence[Path], peers: lineup.Peers
) -> dict[str, Any]:
    """Ours as measured when the bundle was made; the peers' over the same positions."""
    told: dict[str, Any] = {}
    for path in bundles:
        found = open_causal_lm(path).manifest.variants[0].fidelity
        if found is not None:
            told[name_of(path)] = {"positions": found.positions, "kl": found.kl, "top1": found.top1}
    opened = open_causal_lm(bundles[0])
    passages = fidelity_passages(reader_of(opened))
    for weights in peers.weights:
        told[weights.engine.name] = await engines.fidelity(
            builder,
            weights,
            _reference(cache, opened),
            passages,
            text_sha256=fidelity_text_sha256(),
            threads=lab.threads,
            log=lab.log,
        )
    for name, figures in told.items():
        say(f"  {name:34}  KL {figures['kl']:.4f} nats, top-1 {figures['top1']:.3f}")
    return told


def _reference(cache: Cache, bundle: TextBundle) -> Runner:
    folder = cache.follow(LINKS, variant_digest(bundle))
    if folder is None:
        raise SystemExit(
            "the fp32 graph that the bundle was made of is not in the cache: export it here first"
        )
    return runner_of(folder)


if __name__ == "__main__":
    main()
