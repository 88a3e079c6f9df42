"""Statistics of a core with something in every field."""

from __future__ import annotations

import dataclasses

from nsedge.api import (
    Histogram,
    ModelInfo,
    ModelMemory,
    ModelState,
    ModelStats,
    ModelTimes,
    ResidencyStats,
    Stats,
)
from tests.fakes import FakeService

MIB = 2**20


def spread(times: int = 1) -> Histogram:
    return Histogram(bounds_s=(0.01, 0.1, 1.0), counts=(times, 2 * times, times, 0), sum_s=0.5)


def model(times: int = 1) -> ModelStats:
    """A model that has done so many times the same."""
    seen = spread(times)
    return ModelStats(
        running=2,
        waiting=1,
        slots=4,
        kv_tokens_used=256,
        kv_tokens_capacity=1024,
        steps=10 * times,
        step_s=0.5 * times,
        prompt_tokens=100 * times,
        completion_tokens=40 * times,
        finished={"stop": 3 * times, "length": 1, "cancelled": 2, "engine_failure": 1},
        prefix_query_tokens=100 * times,
        prefix_hit_tokens=25 * times,
        preemptions=1,
        texts=30 * times,
        images=20 * times,
        audio_s=60.0 * times,
        memory=ModelMemory(
            weights_bytes=100 * MIB,
            kv_bytes=20 * MIB,
            arena_bytes=5 * MIB,
            kv_reserved_bytes=80 * MIB,
            device_bytes=3 * MIB,
        ),
        times=ModelTimes(
            queue=seen, prefill=seen, first_token=seen, inter_token=seen, request=seen, step=seen
        ),
    )


def stats(times: int = 1, *, uptime_s: float = 3725.0) -> Stats:
    """A core with one model in memory."""
    return Stats(
        uptime_s=uptime_s,
        rss_bytes=300 * MIB,
        requests_accepted=7 * times,
        models={"echo": model(times)},
        residency=ResidencyStats(
            used_bytes=125 * MIB,
            loads=3,
            load_failures=1,
            evictions=1,
            idle_unloads=1,
            guesses=2,
            guesses_used=1,
            guesses_wasted=1,
            budget_bytes=500 * MIB,
            device_budget_bytes=900 * MIB,
            device_used_bytes=3 * MIB,
            load_times=spread(),
        ),
        failures={"queue_full": 2, "unknown_model": 1},
        loop_lag=spread(times),
    )


MODELS = (
    ModelInfo(
        name="echo",
        kind="causal-lm",
        state=ModelState.READY,
        created=0,
        slots=4,
        load_s=1.5,
        keep_alive_s=float("inf"),
    ),
    ModelInfo(name="coming", kind="causal-lm", state=ModelState.LOADING, created=0, progress=0.4),
    ModelInfo(name="asleep", kind="causal-lm", state=ModelState.ABSENT, created=0),
)


class Busy(FakeService):
    """A service that says the above; each look finds as much done again."""

    looks = 0

    async def stats(self) -> Stats:
        self.looks += 1
        return stats(self.looks, uptime_s=3725.0 + self.looks)

    async def models(self) -> tuple[ModelInfo, ...]:
        return MODELS


def without_model(told: Stats) -> Stats:
    """As after a model was unloaded."""
    return dataclasses.replace(told, models={})
