"""How models are used: counts, times, hours, and which follows which. Values only.

A record survives restarts; `usage_file` keeps it. Times are seconds since the Unix epoch.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from nsedge.api import ModelUsage

HOURS = 24
Count = Annotated[int, Meta(ge=0)]
Hours = Annotated[list[Count], Meta(min_length=HOURS, max_length=HOURS)]


class Footprint(msgspec.Struct, kw_only=True):
    """What a bundle took when it was last loaded: it will take that again."""

    bundle: str
    """Which bundle, settings and release this is true of."""
    host_bytes: Count
    device_bytes: Count = 0


class Record(msgspec.Struct, kw_only=True):
    """One model's use."""

    count: Count = 0
    total_s: float = 0.0
    last_used_s: float = 0.0
    hours: Hours = msgspec.field(default_factory=lambda: [0] * HOURS)
    followed_by: dict[str, Count] = msgspec.field(default_factory=dict)
    footprint: Footprint | None = None


class History(msgspec.Struct, kw_only=True):
    """Every model's use, and which was used last."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    models: dict[str, Record] = msgspec.field(default_factory=dict)
    last: str | None = None
    weights: dict[str, float] = msgspec.field(default_factory=dict)
    """How far each expert of the predictor is trusted."""

    def of(self, name: str) -> Record:
        """The record of a model, made where there is none."""
        return self.models.setdefault(name, Record())

    def began(self, name: str, *, now_s: float, hour: int) -> None:
        """A request for `name` begins. hour: 0 to 23, local time."""
        record = self.of(name)
        record.count += 1
        record.last_used_s = now_s
        record.hours[hour] += 1
        if self.last is not None and self.last != name:
            followers = self.of(self.last).followed_by
            followers[name] = followers.get(name, 0) + 1
        self.last = name

    def ended(self, name: str, seconds: float) -> None:
        """A request for `name` took so long."""
        self.of(name).total_s += seconds


def priority_score(count: int, idle_s: float) -> float:
    """count * max(0.1, 1 - idle_s / 3600): the least that preloading goes by."""
    return count * max(0.1, 1.0 - max(0.0, idle_s) / 3600.0)


def told(record: Record, *, now_s: float, likelihood: float) -> ModelUsage:
    """A record as clients are told of it."""
    return ModelUsage(
        usage_count=record.count,
        total_s=record.total_s,
        last_used_s=record.last_used_s,
        priority_score=priority_score(record.count, now_s - record.last_used_s),
        likelihood=likelihood,
        hours=tuple(record.hours),
        followed_by=dict(record.followed_by),
    )
