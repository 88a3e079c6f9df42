"""What the policy makes of real costs: the model of arithmetic takes the time that a model takes.

Costs are those of a 135 million parameter model on two cores; the clock is the fake one, so that
nothing here depends on the machine.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict

import pytest

from nsedge.api import Delta
from nsedge.runtime.decode.plan import KvSwap, StepPlan
from nsedge.runtime.settings import EngineSettings
from tests.unit.rig import Rig

DEFAULT = EngineSettings()


def cost_s(plan: StepPlan, mixed: bool) -> float:
    """Seconds of a step: 5 ms and 0.7 a row to decode, 3 ms and 0.5 a token to read. Where both are
    one run, those 3 ms are spared."""
    copied = sum(copy.tokens * (2 if isinstance(copy, KvSwap) else 1) for copy in plan.copies)
    decoding = 5e-3 + 0.7e-3 * len(plan.decode) if plan.decode else 0.0
    reading = sum(3e-3 + 0.5e-3 * (chunk.end - chunk.start) for chunk in plan.prefill)
    saved = 3e-3 * len(plan.prefill) if mixed and plan.decode else 0.0
    return 1.5e-6 * copied + decoding + reading - saved


class Scene:
    """A rig whose steps take time, and when each token came."""

    def __init__(self, *, mixed: bool) -> None:
        self.rig = Rig(
            slots=16,
            max_waiting=64,
            chunk_tokens=DEFAULT.prefill_chunk_tokens,
            burst_s=DEFAULT.burst_s,
            step_s=0.0,
            mixed=mixed,
        )
        self.rig.model.on_step = lambda plan: self.rig.clock.advance(cost_s(plan, mixed))
        self.asked_at_s: dict[str, float] = {}
        self.told_at_s: dict[str, list[float]] = defaultdict(list)

    def ask(self, name: str, tokens: int, max_tokens: int) -> None:
        number = len(self.asked_at_s) + 1
        prompt = tuple((number * position) % 97 for position in range(tokens))
        self.asked_at_s[name] = self.rig.clock()
        self.rig.submit(name, prompt, max_tokens, ignore_end=True)

    def step(self) -> None:
        self.rig.step()
        for name, events in self.rig.events.items():
            told = sum(isinstance(event, Delta) for event in events)
            self.told_at_s[name] += [self.rig.clock()] * (told - len(self.told_at_s[name]))

    def until_told(self, name: str) -> None:
        while not self.told_at_s[name]:
            self.step()

    def first_s(self, name: str) -> float:
        return self.told_at_s[name][0] - self.asked_at_s[name]

    def gaps_s(self, names: list[str], since_s: float, until_s: float) -> list[float]:
        return [
            late - early
            for name in names
            for early, late in itertools.pairwise(self.told_at_s[name])
            if early >= since_s and late <= until_s
        ]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("rows", [4, 8, 12])
def test_long_prompts_at_most_double_the_time_between_tokens(rows: int, mixed: bool) -> None:
    scene = Scene(mixed=mixed)
    running = [f"running {n}" for n in range(rows)]
    for name in running:
        scene.ask(name, 100, 10**6)
    scene.until_told(running[-1])
    began_s = scene.rig.clock()
    for _ in range(50):
        scene.step()
    quiet_s = statistics.median(scene.gaps_s(running, began_s, scene.rig.clock()))
    for number in range(3):
        asked_s = scene.rig.clock()
        scene.ask(f"long {number}", 900, 1)
        scene.until_told(f"long {number}")
        gaps = scene.gaps_s(running, asked_s, scene.rig.clock())
        assert statistics.quantiles(gaps, n=100)[98] <= 2.0 * quiet_s
        # A third of the time is theirs; as runs of their own, small pieces cost more.
        assert scene.first_s(f"long {number}") <= (5.0 if mixed else 5.5) * 900 * 0.5e-3


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("streams", "tokens"), [(8, 100), (16, 100), (4, 440)])
def test_a_burst_is_read_nearly_as_fast_as_if_nothing_were_decoded(
    streams: int, tokens: int, mixed: bool
) -> None:
    scene = Scene(mixed=mixed)
    names = [f"r{n}" for n in range(streams)]
    for name in names:
        scene.ask(name, tokens, 64)
    while not all(scene.told_at_s[name] for name in names):
        scene.step()
    pieces = -(-tokens // DEFAULT.prefill_chunk_tokens)
    alone_s = streams * (3e-3 * pieces + 0.5e-3 * tokens)
    assert max(map(scene.first_s, names)) <= 1.1 * alone_s
    gaps = scene.gaps_s(names, 0.0, scene.rig.clock())
    assert max(gaps, default=0.0) <= 0.3
