"""What was learnt of models over restarts: how they are used, what they took, what comes next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path

from nsedge.api import Recommendation, UsageReport
from nsedge.process.state_file import encode
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.residency.catalogue import stamp_of
from nsedge.runtime.residency.prediction import PREDICTORS, Shares, ranked
from nsedge.runtime.residency.usage import Footprint, priority_score, told
from nsedge.runtime.residency.usage_file import UsageFile

SAVE_EVERY_S = 30.0
"""Longest loss of statistics where the daemon is killed, in seconds."""


def local_hour(now_s: float) -> int:
    """The hour of the day, 0 to 23, at a time since the Unix epoch."""
    return time.localtime(now_s).tm_hour


class Habits:
    """A history, its file, and a predictor over it. On one thread, but for the writing."""

    def __init__(
        self,
        *,
        file: UsageFile,
        predictor: str = "patterns",
        setting: str = "",
        now: Callable[[], float] = time.time,
        hour: Callable[[float], int] = local_hour,
    ) -> None:
        """`predictor` is a key of PREDICTORS. `setting` tells what a bundle's footprint depends on
        beside the bundle. `now` gives seconds since the Unix epoch."""
        self._file = file
        self._name = predictor
        self._predictor = PREDICTORS[predictor]()
        self._setting = setting
        self._now = now
        self._hour = hour
        self._history = file.read()
        self._changed = False
        self._saved_s = now()

    @property
    def mark(self) -> tuple[int, int]:
        """Equal to an earlier one where nothing has happened since that would change a guess."""
        return self.requests, self._hour(self._now())

    @property
    def requests(self) -> int:
        """How many there ever were."""
        return sum(record.count for record in self._history.models.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Every model that is known."""
        return tuple(self._history.models)

    def began(self, name: str) -> None:
        """A request for `name` begins."""
        now_s = self._now()
        hour = self._hour(now_s)
        self._predictor.learn(self._history, name, now_s=now_s, hour=hour)
        self._history.began(name, now_s=now_s, hour=hour)
        self._changed = True

    def ended(self, name: str, seconds: float) -> None:
        """A request for `name` took so long."""
        self._history.ended(name, seconds)
        self._changed = True

    def took(self, name: str, path: Path, amount: Amount) -> None:
        """The bundle at `path` was measured."""
        self._history.of(name).footprint = Footprint(
            bundle=self._identity(path), host_bytes=amount.host, device_bytes=amount.device
        )
        self._changed = True

    def expected(self, name: str, path: Path) -> Amount | None:
        """What the bundle took when it was last loaded; None where it, or a setting, has changed
        since, or it never was."""
        record = self._history.models.get(name)
        known = None if record is None else record.footprint
        if known is None or known.bundle != self._identity(path):
            return None
        return Amount(known.host_bytes, known.device_bytes)

    def likeliest(self, names: Iterable[str]) -> list[str]:
        """Of `names` those that were ever used, the likeliest next first."""
        asked = set(names)
        used = (name for name in ranked(self._likelihoods()) if self._history.of(name).count)
        return [name for name in used if name in asked]

    def worthwhile(self, names: Iterable[str], top: int) -> list[str]:
        """Of the `top` likeliest of `names`, those worth loading before they are asked for."""
        likely = self._likelihoods()
        first = self.likeliest(names)[:top]
        return [name for name in first if likely[name] >= self._predictor.least]

    def report(self, *, preload_top: int, names: Iterable[str]) -> UsageReport:
        """What clients are told; `names` are the models there are."""
        now_s, likely = self._now(), self._likelihoods()
        used = {name: one for name, one in self._history.models.items() if one.count}
        return UsageReport(
            predictor=self._name,
            preload_top=preload_top,
            unkept=self._file.failure,
            models={
                name: told(record, now_s=now_s, likelihood=likely[name])
                for name, record in used.items()
            },
            recommendations=tuple(
                Recommendation(
                    model=name,
                    likelihood=likely[name],
                    priority_score=priority_score(used[name].count, now_s - used[name].last_used_s),
                )
                for name in self.likeliest(names)
            ),
        )

    def save_soon(self, thread: Executor) -> None:
        """Write on `thread` where there is something new and the last time is a while ago."""
        now_s = self._now()
        if self._changed and abs(now_s - self._saved_s) >= SAVE_EVERY_S:
            self._changed, self._saved_s = False, now_s
            thread.submit(self._file.write, encode(self._history))

    def save(self) -> None:
        """Write what is new, or could not be written before."""
        if self._changed or self._file.failure is not None:
            self._changed = self._file.write(encode(self._history)) is not None

    def _likelihoods(self) -> Shares:
        now_s = self._now()
        return self._predictor.likelihoods(self._history, now_s=now_s, hour=self._hour(now_s))

    def _identity(self, path: Path) -> str:
        return f"{path} {stamp_of(path)} {self._setting}"
