"""The wait of streams for a prompt whose log-probabilities are told: the processor time between two
of their tokens while prompts of 900 tokens arrive that tell nothing of themselves, those of their
tokens, or those of the likeliest in each place, too.

    python -m bench.told --bundle DIR [--top 5] [--rounds 3]

The engine runs with one thread, and its clock is the processor time of this process: on a crowded
machine the figures are those of a quiet one, but for what neighbours take of caches.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.report import chosen_of, emit, parser, percentiles, say
from bench.scenarios import ARRIVALS, LONG_CONTEXT, LONG_TOKENS, RUNNING_STREAMS, Arrival
from bench.workload import Writer
from nsedge.api import Event, Finished, Generate, Request, Sampling
from nsedge.runtime.decode.job import Job
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.admission import make_job
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import load
from nsedge.runtime.settings import EngineSettings

QUIET_STEPS = 80
SETTLING_STEPS = 10
PLAIN, CHOSEN, LIKELIEST = "plain", "chosen", "likeliest"


@dataclass(eq=False)
class Stream:
    """A running stream, and when its tokens came."""

    job: Job
    times_s: list[float] = field(default_factory=list)

    def look(self, now_s: float) -> None:
        """Note a token that came since the last look."""
        if len(self.job.sequence.output_ids) > len(self.times_s):
            self.times_s.append(now_s)


class Site:
    """An engine that is stepped by hand, and streams that run in it."""

    def __init__(self, bundle: Path) -> None:
        settings = EngineSettings(slots=RUNNING_STREAMS + 1, context_tokens=LONG_CONTEXT, threads=1)
        host = Host(settings=settings, deliver=_deliver, clock=time.process_time)
        self._resident = load(bundle, host)
        self._ended: set[str] = set()
        self._count = 0
        self.streams: list[Stream] = []
        self.writer = Writer.of(bundle)

    @property
    def model(self) -> str:
        """The name of the model that is run."""
        return self._resident.manifest.name

    def ask(self, text: str, **sampling: Any) -> Job:
        """Submit a prompt."""
        self._count += 1
        greedy = Sampling(temperature=0.0, ignore_eos=True, **sampling)
        task = Generate(text=text, sampling=greedy)
        request = Request(request_id=str(self._count), model=self.model, task=task)
        job = make_job(
            request,
            self._resident,
            prompt_ids=self._resident.prompts.read(task),
            submitted_s=time.process_time(),
            emit=self._see,
        )
        self._resident.engine.submit(job)
        return job

    def steps_until(self, done: Callable[[], bool]) -> None:
        """Step until `done`."""
        engine = self._resident.engine
        while not done():
            engine.drain_inbox(wait=False)
            engine.step()
            now_s = time.process_time()
            for stream in self.streams:
                stream.look(now_s)

    def quiet(self, steps: int) -> tuple[float, float]:
        """Let the streams run by themselves for so many tokens each; from when to when."""
        since_s, first = time.process_time(), self.streams[0]
        wanted = len(first.times_s) + steps
        self.steps_until(lambda: len(first.times_s) >= wanted)
        return since_s, time.process_time()

    def begin(self) -> None:
        """Have streams run."""
        for text in self.writer.prompts(count=RUNNING_STREAMS, tokens=100):
            self.streams.append(Stream(self.ask(text, max_tokens=LONG_CONTEXT - 120)))
        self.steps_until(lambda: all(stream.times_s for stream in self.streams))

    def end(self) -> None:
        """Cancel the streams."""
        ended = {stream.job.request_id for stream in self.streams}
        for stream in self.streams:
            self._resident.engine.cancel(stream.job)
        self.streams.clear()
        self.steps_until(lambda: ended <= self._ended)

    def arrive(self, told: int | None) -> tuple[float, float]:
        """Read a long prompt to its first token; from when to when."""
        (text,) = self.writer.prompts(count=1, tokens=LONG_TOKENS)
        since_s = time.process_time()
        label = self.ask(text, max_tokens=1, prompt_logprobs=told).request_id
        self.steps_until(lambda: label in self._ended)
        return since_s, time.process_time()

    def gaps(self, window: tuple[float, float]) -> list[float]:
        """Between tokens, of which some part lies in a window."""
        since_s, until_s = window
        return [
            end - begin
            for stream in self.streams
            for begin, end in pairwise(stream.times_s)
            if begin < until_s and end > since_s
        ]

    def _see(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._ended.add(event.request_id)


def _deliver(batch: list[tuple[Emit, Event]]) -> None:
    for emit_event, event in batch:
        emit_event(event)


def disturbed(site: Site, told: int | None) -> list[Arrival]:
    """Streams, and prompts that arrive one after another."""
    site.begin()
    site.quiet(SETTLING_STEPS)
    calm, came = [site.quiet(QUIET_STEPS)], []
    for _ in range(ARRIVALS):
        came.append(site.arrive(told))
        site.quiet(SETTLING_STEPS)
        calm.append(site.quiet(QUIET_STEPS))
    found = [
        Arrival(
            disturbed_s=site.gaps(window),
            around_s=[*site.gaps(before), *site.gaps(after)],
            first_s=window[1] - window[0],
        )
        for window, (before, after) in zip(came, pairwise(calm), strict=True)
    ]
    site.end()
    return found


def summary(came: list[Arrival]) -> dict[str, Any]:
    """Over all that came; `stretch` is the p99 of gaps beside a prompt, in quiet medians."""
    stretches = sorted(arrival.stretch for arrival in came)
    return {
        "around_s": percentiles(gap for arrival in came for gap in arrival.around_s),
        "disturbed_s": percentiles(gap for arrival in came for gap in arrival.disturbed_s),
        "first_token_s": percentiles(arrival.first_s for arrival in came),
        "stretch": {
            "median": statistics.median(stretches),
            "least": stretches[0],
            "most": stretches[-1],
        },
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Each kind of prompt in turn, in every round; the first round warms up."""
    site, found = Site(options.bundle), defaultdict[str, list[Arrival]](list)
    for number in range(options.rounds + 1):
        for kind, told in ((PLAIN, None), (CHOSEN, 0), (LIKELIEST, options.top)):
            came = disturbed(site, told)
            if number:
                found[kind] += came
    kinds = {kind: summary(came) for kind, came in found.items()}
    return {"model": site.model, "prompt_tokens": LONG_TOKENS, "kinds": kinds}


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--top", type=int, default=5, help="likeliest tokens told in each place")
    arguments.set_defaults(rounds=3)
    options = arguments.parse_args()
    result = measure(options)
    for kind, one in result["kinds"].items():
        quiet, beside = one["around_s"], one["disturbed_s"]
        say(
            f"{kind:9}  quiet p50 {quiet['p50'] * 1e3:6.1f} p99 {quiet['p99'] * 1e3:6.1f} ms,"
            f" beside p50 {beside['p50'] * 1e3:6.1f} p99 {beside['p99'] * 1e3:6.1f} ms,"
            f" {one['stretch']['median']:.2f} quiet medians"
            f" ({one['stretch']['least']:.2f} to {one['stretch']['most']:.2f}),"
            f" first token {one['first_token_s']['p50']:.2f} s"
        )
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    emit({"bench": "told", "date": date, "options": chosen_of(options), **result}, options.json)


if __name__ == "__main__":
    main()
