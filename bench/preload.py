"""Predictors compared: the requests of a trace replayed against memory that holds some models.

    python -m bench.preload [--room 3] [--top 2] [--keep-alive 1800] [--seeds 5] [--trace FILE ...]

The traces are made up, from seeds: fourteen days of habits of several kinds, and of none. A file
has a line a request: seconds since the Unix epoch, and a model's name. All times count as UTC.

Models are alike in size. A request for one that is absent loads it, and the longest unused leaves
where there is no room; who is unused for the keep-alive leaves. While nothing is asked for, the
likeliest are loaded as the daemon does it: within the room, and for nobody's eviction.

- hit_rate: requests whose model was there.
- avoided: cold starts fewer than without preloading.
- wasted: models loaded for a guess that left unused; guesses: all that were.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import emit, say
from nsedge.runtime.machine.amounts import Amount, Room
from nsedge.runtime.residency.budget import Fits, Holder, NeverFits, decide
from nsedge.runtime.residency.habits import Habits
from nsedge.runtime.residency.prediction import PREDICTORS
from nsedge.runtime.residency.usage_file import UsageFile

DAY_S, HOUR_S, MINUTE_S = 86400.0, 3600.0, 60.0
DAYS = 14
IDLE_S = 2.0
"""Seconds without a request before a guess."""
FREE = "nothing"
"""The name of the run without preloading."""
Trace = list[tuple[float, str]]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """How much there is, and how it is used."""

    room: int
    top: int
    keep_alive_s: float


@dataclass(kw_only=True)
class Held:
    """A model in memory."""

    used_s: float
    guessed: bool


@dataclass(kw_only=True)
class Tally:
    """The outcome of a replay."""

    requests: int = 0
    hits: int = 0
    guesses: int = 0
    wasted: int = 0


class Replay:
    """One trace, one predictor."""

    def __init__(self, memory: Memory, predictor: str) -> None:
        self.tally = Tally()
        self._memory = memory
        self._guesses = predictor != FREE
        self._now_s = 0.0
        self._held: dict[str, Held] = {}
        self._declined: dict[str, tuple[int, int]] = {}
        self._habits = Habits(
            file=UsageFile(None),
            predictor=predictor if self._guesses else "score",
            now=lambda: self._now_s,
            hour=lambda now_s: int(now_s % DAY_S // HOUR_S),
        )

    def run(self, trace: Trace) -> Tally:
        """Replay it."""
        for at_s, model in trace:
            self._pass(at_s)
            self._ask(model)
        for held in self._held.values():
            self.tally.wasted += held.guessed
        return self.tally

    def _ask(self, model: str) -> None:
        self.tally.requests += 1
        held = self._held.get(model)
        self.tally.hits += held is not None
        if held is None:
            self._load(model, guessed=False)
        self._held[model] = Held(used_s=self._now_s, guessed=False)
        self._habits.began(model)

    def _pass(self, until_s: float) -> None:
        """Let time pass: models become idle, hours begin, guesses are made."""
        self._now_s = min(until_s, self._now_s + IDLE_S)
        while self._now_s < until_s:
            self._expire()
            if self._guesses and self._guess():
                continue
            leaves = [one.used_s + self._memory.keep_alive_s for one in self._held.values()]
            hour_s = (self._now_s // HOUR_S + 1) * HOUR_S
            self._now_s = min([until_s, hour_s, *(at for at in leaves if at > self._now_s)])
        self._expire()

    def _expire(self) -> None:
        for name, held in list(self._held.items()):
            if self._now_s - held.used_s >= self._memory.keep_alive_s:
                self._leave(name)

    def _leave(self, name: str) -> None:
        self.tally.wasted += self._held.pop(name).guessed
        self._declined[name] = self._habits.mark

    def _guess(self) -> bool:
        """Whether a model was loaded before it was asked for."""
        for name in self._habits.worthwhile(self._habits.names, self._memory.top):
            if name in self._held or self._declined.get(name) == self._habits.mark:
                continue
            if self._load(name, guessed=True):
                self._declined[name] = self._habits.mark
                return True
        return False

    def _load(self, name: str, *, guessed: bool) -> bool:
        room = Room(self._memory.room - len(self._held))
        holders = [
            Holder(
                name=other,
                amount=Amount(1),
                in_use=False,
                pinned=False,
                guessed=one.guessed,
                last_used_s=one.used_s,
            )
            for other, one in self._held.items()
        ]
        match decide(Amount(1), room, holders):
            case Fits(victims=victims) if not (guessed and victims):
                for victim in victims:
                    self._leave(victim)
            case Fits():
                return False
            case NeverFits() | _:
                raise ValueError("the room holds no model at all")
        self.tally.guesses += guessed
        self._held[name] = Held(used_s=self._now_s, guessed=guessed)
        return True


def office(random_: random.Random) -> Trace:
    """Models by the hour: mail in the morning, code by day, films and songs in the evening."""
    hours = {"mail": range(7, 10), "code": range(9, 18), "notes": range(13, 19)}
    evening = {"film": range(19, 23), "song": range(18, 22), "recipe": range(17, 19)}
    trace: Trace = []
    for day in range(DAYS):
        weekend = day % 7 >= 5
        for model, span in (evening if weekend else {**hours, **evening}).items():
            for hour in span:
                for _ in range(random_.choice((0, 1, 1, 2))):
                    trace.append((day * DAY_S + (hour + random_.random()) * HOUR_S, model))
    return sorted(trace)


def pipeline(random_: random.Random) -> Trace:
    """Jobs of steps, each step a model of its own, one job after the other, at any time of day."""
    jobs = (("hear", "write", "translate"), ("look", "write", "check"), ("plan", "code", "check"))
    trace, now_s = Trace(), 0.0
    while now_s < DAYS * DAY_S:
        now_s += random_.expovariate(1 / (2 * HOUR_S))
        for model in random_.choice(jobs):
            for _ in range(random_.randint(1, 3)):
                trace.append((now_s, model))
                now_s += random_.uniform(20.0, 120.0)
            now_s += random_.uniform(MINUTE_S, 40 * MINUTE_S)
    return trace


def changing(random_: random.Random) -> Trace:
    """A pipeline of which the steps change their order after a week."""
    first, second = ("a", "b", "c", "d", "e"), ("a", "d", "b", "e", "c")
    trace, now_s = Trace(), 0.0
    while now_s < DAYS * DAY_S:
        for model in first if now_s < DAYS * DAY_S / 2 else second:
            trace.append((now_s, model))
            now_s += random_.uniform(10 * MINUTE_S, 50 * MINUTE_S)
    return trace


def popular(random_: random.Random) -> Trace:
    """Some models more popular than others, in no order and at no hour."""
    models = [f"m{n}" for n in range(8)]
    weights = [1 / (n + 1) for n in range(8)]
    return _at_random(random_, lambda: random_.choices(models, weights)[0])


def chance(random_: random.Random) -> Trace:
    """Nothing to foretell."""
    models = [f"m{n}" for n in range(8)]
    return _at_random(random_, lambda: random_.choice(models))


def _at_random(random_: random.Random, model: Callable[[], str]) -> Trace:
    trace, now_s = Trace(), 0.0
    while now_s < DAYS * DAY_S:
        now_s += random_.expovariate(1 / (25 * MINUTE_S))
        trace.append((now_s, model()))
    return trace


HABITS: dict[str, Callable[[random.Random], Trace]] = {
    "office": office,
    "pipeline": pipeline,
    "changing": changing,
    "popular": popular,
    "chance": chance,
}


def read(path: Path) -> Trace:
    """A trace from a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    words = [line.split(maxsplit=1) for line in lines if line.strip()]
    return sorted((float(at_s), model.strip()) for at_s, model in words)


def compare(traces: Sequence[Trace], memory: Memory) -> dict[str, dict[str, float]]:
    """Means over the traces, by predictor."""
    found: dict[str, dict[str, float]] = {}
    replays = {
        name: [Replay(memory, name).run(trace) for trace in traces] for name in (FREE, *PREDICTORS)
    }
    cold = statistics.mean(one.requests - one.hits for one in replays[FREE])
    for name, tallies in replays.items():
        missed = statistics.mean(one.requests - one.hits for one in tallies)
        found[name] = {
            "requests": statistics.mean(one.requests for one in tallies),
            "hit_rate": statistics.mean(one.hits / one.requests for one in tallies),
            "avoided": cold - missed,
            "guesses": statistics.mean(one.guesses for one in tallies),
            "wasted": statistics.mean(one.wasted for one in tallies),
        }
    return found


def main() -> None:
    """Replay and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--room", type=int, default=3, help="models that fit")
    options.add_argument("--top", type=int, default=2, help="models to hold ready")
    options.add_argument("--keep-alive", type=float, default=1800.0, help="seconds")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--trace", type=Path, action="append", default=[], help="a file of one")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    memory = Memory(room=given.room, top=given.top, keep_alive_s=given.keep_alive)
    made: dict[str, list[Trace]] = {
        name: [make(random.Random(seed)) for seed in range(given.seeds)]
        for name, make in HABITS.items()
    }
    made |= {path.name: [read(path)] for path in given.trace}
    results: dict[str, Any] = {name: compare(traces, memory) for name, traces in made.items()}
    emit({"bench": "preload", "memory": vars(memory), "traces": results}, given.json)
    say(f"{'trace':10} {'predictor':9} {'hit rate':>8} {'avoided':>8} {'guesses':>8} {'wasted':>7}")
    for name, found in results.items():
        for predictor, one in found.items():
            say(
                f"{name:10} {predictor:9} {one['hit_rate']:8.1%} {one['avoided']:8.1f}"
                f" {one['guesses']:8.1f} {one['wasted']:7.1f}"
            )


if __name__ == "__main__":
    main()
