"""Contenders in turn, round after round; rounds that others disturbed are run again."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
QUIET_CORES = 0.15
"""A round in which others took more than this is disturbed: one of two cores taken costs two
thirds of the speed, a tenth is within what rounds differ by anyway."""


class Watch(Protocol):
    """The noise since it was made."""

    def others(self) -> float:
        """Cores' worth of others' work."""


@dataclass(frozen=True)
class Run(Generic[T]):
    """The figures of one contender in one round, and the machine's load by others meanwhile."""

    figures: T
    others_cores: float


@dataclass(frozen=True)
class Rounds(Generic[T]):
    """Every round run, by contender; `kept` are the numbers of those that count."""

    runs: tuple[dict[str, Run[T]], ...]
    kept: tuple[int, ...]

    def of(self, contender: str) -> list[T]:
        """The contender's figures in the rounds that count."""
        return [self.runs[number][contender].figures for number in self.kept]

    def noise(self) -> list[float]:
        """Of every round: the most that others took beside any contender."""
        return [_noise(runs) for runs in self.runs]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How many rounds count, and how many more may be run to replace disturbed ones."""

    rounds: int
    extra: int
    warm_up: int = 1
    quiet_cores: float = QUIET_CORES


async def interleave(
    contenders: Mapping[str, Callable[[], Awaitable[T]]],
    schedule: Schedule,
    watch: Callable[[], Watch],
) -> Rounds[T]:
    """Run every contender once a round, each round beginning with the next one.

    Warm-up rounds are not told. Where too few rounds are quiet in the end, the quietest count.
    """
    names = list(contenders)
    for _ in range(schedule.warm_up):
        for name in names:
            await contenders[name]()
    done: list[dict[str, Run[T]]] = []
    while not _enough(done, schedule):
        runs = {}
        shift = len(done) % len(names)
        for name in names[shift:] + names[:shift]:
            noise = watch()
            figures = await contenders[name]()
            runs[name] = Run(figures, noise.others())
        done.append(runs)
    return Rounds(tuple(done), keep([_noise(runs) for runs in done], schedule.rounds))


def keep(noise: Sequence[float], rounds: int) -> tuple[int, ...]:
    """The numbers of the quietest `rounds` rounds, in their order."""
    return tuple(sorted(sorted(range(len(noise)), key=lambda number: noise[number])[:rounds]))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _enough(done: Sequence[Mapping[str, Run[T]]], schedule: Schedule) -> bool:
    quiet = sum(_noise(runs) <= schedule.quiet_cores for runs in done)
    return quiet >= schedule.rounds or len(done) >= schedule.rounds + schedule.extra


def _noise(runs: Mapping[str, Run[T]]) -> float:
    return max(run.others_cores for run in runs.values())
