"""What an engine counts, on its own thread."""

from __future__ import annotations

from dataclasses import dataclass, field

from nsedge.api import ModelStats
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.timing import Times


@dataclass(slots=True)
class Counters:
    """Steps, the seconds in them, and tokens, since the engine was made."""

    steps: int = 0
    step_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    times: Times = field(default_factory=Times)

    def step(self, seconds: float) -> None:
        """A step took so long."""
        self.steps += 1
        self.step_s += seconds
        self.times.step.add(seconds)

    def stats(
        self, scheduler: Scheduler, *, slots: int, capacity: int, ended: dict[str, int]
    ) -> ModelStats:
        """What clients are told, from any thread: each is true, together they may be a step apart.
        ended: jobs, by how."""
        return ModelStats(
            running=scheduler.running,
            waiting=scheduler.waiting,
            slots=slots,
            kv_tokens_used=scheduler.kv_tokens,
            kv_tokens_capacity=slots * capacity,
            steps=self.steps,
            step_s=self.step_s,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            finished=dict(ended),
            prefix_query_tokens=scheduler.prefix_query_tokens,
            prefix_hit_tokens=scheduler.prefix_hit_tokens,
            preemptions=scheduler.preemptions,
            times=self.times.read(),
        )
