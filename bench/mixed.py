"""Streams of text beside other work in the same core: the p99 of seconds between their tokens,
quiet, beside requests of each kind alone, and beside all kinds at once; and how many of those were
answered meanwhile.

    python -m bench.mixed --bundle DIR --beside DIR... [--streams 4] [--tokens 300] [--others 12]
        [--rounds 3]

`--bundle` writes text. Those `--beside` it are of any kind; what each is asked follows from its
tasks: texts to embed, to classify and to fill, photographs to embed and to caption, and the
recordings that a speech model comes with. `--others` requests are under way at any time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import io
import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.daemon import Daemon, daemon
from bench.doors import Trace, ZmqDoor
from bench.report import Noise, chosen_of, emit, parser, say
from bench.rounds import QUIET_CORES, Schedule, interleave, paired_ratio
from bench.workload import Writer
from nsedge.api import Finished, Media
from nsedge.api.stream import EventStream
from nsedge.bundle.manifest import Bundle
from nsedge.errors import NsedgeError
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.cores import usable_cores

QUIET, ALL = "quiet", "all at once"
PROMPT_TOKENS = 32
SETTLE_S = 1.0
"""Other requests are under way for so long before the streams begin."""
TEXTS = ("Wind and weather. " * 12, "The ferry leaves at six.", "Tea costs two euros.") * 5
PHOTOGRAPH = 3000, 2000
"""Pixels of a picture, whose decoding takes longer than a step."""
RETRY_S = 0.05

Ask = Callable[[AsyncClient], EventStream]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Of one run. p99_s, median_s: of seconds between two tokens of one stream; answered: other
    requests a second meanwhile, by name."""

    p99_s: float
    median_s: float
    answered: Mapping[str, float]


def photograph() -> Media:
    """A JPEG file with much in it: noise in blocks, from the same seed."""
    width, height = PHOTOGRAPH
    levels = np.random.default_rng(0).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(levels).resize(PHOTOGRAPH).save(written, "JPEG", quality=90)
    return Media(type="image/jpeg", data=written.getvalue())


def asks_of(bundle: Path, picture: Media) -> dict[str, Ask]:
    """The requests that a model takes, by their names in the result."""
    manifest = Bundle.open(bundle).manifest
    name, found = manifest.name, dict[str, Ask]()
    if manifest.kind == "dual-encoder":
        found["pictures"] = lambda client: client.embed(name, [picture])
    elif "embed" in manifest.tasks:
        found["vectors"] = lambda client: client.embed(name, TEXTS)
    if "classify" in manifest.tasks and manifest.kind != "dual-encoder":
        found["labels"] = lambda client: client.classify(name, TEXTS)
    if "fill" in manifest.tasks:
        masked = [f"{text} {getattr(manifest, 'mask', '[MASK]')}." for text in TEXTS]
        found["masks"] = lambda client: client.fill(name, masked)
    if "caption" in manifest.tasks:
        found["captions"] = lambda client: client.caption(name, picture)
    if "transcribe" in manifest.tasks:
        files = sorted((bundle / "golden").glob("*.wav"))
        sounds = itertools.cycle([Media(type="audio/wav", data=one.read_bytes()) for one in files])
        found["speech"] = lambda client: client.transcribe(name, next(sounds))
    return found


@contextlib.asynccontextmanager
async def busy(
    client: AsyncClient, asks: Sequence[tuple[str, Ask]], done: Counter[str]
) -> AsyncIterator[None]:
    """Requests under way, each followed by another like it; `done` counts them by name."""
    resting = asyncio.Event()

    async def work(name: str, ask: Ask) -> None:
        while not resting.is_set():
            async with ask(client) as events:
                end = [event async for event in events][-1]
            if isinstance(end, Finished):
                done[name] += 1
            else:
                await asyncio.sleep(RETRY_S)

    async with asyncio.TaskGroup() as group:
        for name, ask in asks:
            group.create_task(work(name, ask))
        yield
        resting.set()


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The p99 of each contender, round by round."""
    asks: dict[str, Ask] = {}
    picture = photograph()
    for bundle in options.beside:
        asks |= asks_of(bundle, picture)
    done: Counter[str] = Counter()
    limits = {"threads": options.threads, "slots": 16}
    async with (
        daemon(options.bundle, *options.beside, **limits) as found,
        AsyncClient(found.endpoint) as client,
        AsyncClient(found.endpoint) as other,
    ):
        streams = Streams(client, found, options)
        contenders: dict[str, Callable[[], Awaitable[Shown]]] = {QUIET: streams.alone}
        for name, ask in asks.items():
            contenders[name] = streams.beside(other, [(name, ask)] * options.others, done)
        if len(asks) > 1:
            mixed = list(itertools.islice(itertools.cycle(asks.items()), options.others))
            contenders[ALL] = streams.beside(other, mixed, done)
        schedule = Schedule(rounds=options.rounds, extra=options.extra)
        rounds = await interleave(contenders, schedule, Noise)
    shown = {name: rounds.of(name) for name in contenders}
    p99_s = {name: [round(one.p99_s, 5) for one in runs] for name, runs in shown.items()}
    ratios = {
        name: round(paired_ratio(found, p99_s[QUIET]), 3)
        for name, found in p99_s.items()
        if name != QUIET
    }
    return {
        "inter_token_p99_s": p99_s,
        "inter_token_median_s": {
            name: [round(one.median_s, 5) for one in runs] for name, runs in shown.items()
        },
        "ratios": ratios,
        "answered_per_s": {name: answered(runs) for name, runs in shown.items() if name != QUIET},
        "ended_well": dict(done),
        "others_cores": [round(one, 3) for one in rounds.noise()],
        "quiet_cores": QUIET_CORES,
    }


class Streams:
    """The streams of text that are measured."""

    def __init__(self, client: AsyncClient, found: Daemon, options: argparse.Namespace) -> None:
        self._door, self._writer = ZmqDoor(client, found.model), Writer.of(options.bundle)
        self._count, self._tokens = options.streams, options.tokens

    async def gaps_s(self) -> list[float]:
        """Have them written; the seconds between two tokens of one."""
        prompts = self._writer.prompts(count=self._count, tokens=PROMPT_TOKENS)
        asked = (self._door.ask(prompt, self._tokens, Trace()) for prompt in prompts)
        return [gap for trace in await asyncio.gather(*asked) for gap in trace.gaps_s]

    async def alone(self) -> Shown:
        """Nothing beside them."""
        return shown_of(await self.gaps_s(), {})

    def beside(
        self, other: AsyncClient, asks: Sequence[tuple[str, Ask]], done: Counter[str]
    ) -> Callable[[], Awaitable[Shown]]:
        """The same while `asks` are under way."""

        async def run() -> Shown:
            async with busy(other, asks, done):
                await asyncio.sleep(SETTLE_S)
                before, began_s = Counter(done), time.perf_counter()
                gaps_s = await self.gaps_s()
                took_s = time.perf_counter() - began_s
                ended = done - before
            return shown_of(gaps_s, {name: count / took_s for name, count in ended.items()})

        return run


def shown_of(gaps_s: list[float], answered: Mapping[str, float]) -> Shown:
    """The figures of a run."""
    p99_s = statistics.quantiles(gaps_s, n=100)[-1]
    return Shown(p99_s=p99_s, median_s=statistics.median(gaps_s), answered=answered)


def answered(runs: Sequence[Shown]) -> dict[str, float]:
    """By name, the median of the runs' requests a second."""
    names = sorted({name for run in runs for name in run.answered})
    return {
        name: round(statistics.median(run.answered.get(name, 0.0) for run in runs), 2)
        for name in names
    }


def main() -> int:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--beside", type=Path, nargs="+", required=True, help="other bundles")
    made.add_argument("--streams", type=int, default=4)
    made.add_argument("--tokens", type=int, default=300, help="of a stream")
    made.add_argument("--others", type=int, default=12)
    made.add_argument("--extra", type=int, default=3, help="rounds that may replace disturbed ones")
    made.add_argument("--threads", type=int, default=usable_cores())
    made.set_defaults(rounds=3)
    options = made.parse_args()
    try:
        result = asyncio.run(measure(options))
    except NsedgeError as error:
        say(f"bench.mixed: {error}")
        return 1
    for name, ratio in result["ratios"].items():
        rates = result["answered_per_s"][name].items()
        told = ", ".join(f"{rate:g} {kind}" for kind, rate in rates)
        say(
            f"  inter-token p99 beside {options.others} of {name}: {ratio:.2f} times that of quiet;"
            f" answered a second: {told}"
        )
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    beside = [one.name for one in options.beside]
    described = {**chosen_of(options), "beside": beside}
    emit({"bench": "mixed", "date": date, "options": described, **result}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
