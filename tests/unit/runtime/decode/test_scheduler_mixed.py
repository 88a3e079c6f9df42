"""Steps that decode and read at once, over the model of arithmetic."""

from __future__ import annotations

import pytest

from nsedge.api import Delta, Event, Priority
from nsedge.runtime.decode.pace import MIXED_FLOOR_TOKENS, QUIET_EVERY
from nsedge.runtime.decode.plan import KvCopy, StepPlan
from tests.unit.rig import Rig, continuation

LONG = tuple(range(1, 41))


def said(events: list[Event]) -> list[int]:
    return [token for e in events if isinstance(e, Delta) for token in e.token_ids]


class Watched(Rig):
    """A rig that remembers each step's decoding rows and pieces."""

    def __post_init__(self) -> None:
        self.mixed = True
        super().__post_init__()
        self.steps: list[tuple[int, list[int]]] = []
        self.model.on_step = self._note

    def _note(self, plan: StepPlan) -> None:
        self.steps.append((len(plan.decode), [len(chunk.ids) for chunk in plan.prefill]))

    def tells_the_truth(self, name: str, prompt: tuple[int, ...], tokens: int) -> None:
        assert said(self.events[name]) == continuation(prompt, tokens, ignore_end=True)


def test_prompts_share_a_run_up_to_its_size() -> None:
    rig = Watched(chunk_tokens=50)
    for n, length in enumerate((12, 13, 40)):
        rig.submit(f"r{n}", (n + 1, *LONG[1:length]), 4, ignore_end=True)
    rig.step()
    assert rig.steps == [(0, [12, 13, 25])]
    rig.run()
    for n, length in enumerate((12, 13, 40)):
        rig.tells_the_truth(f"r{n}", (n + 1, *LONG[1:length]), 4)


def test_a_running_stream_gets_a_token_in_every_step_while_a_prompt_is_read() -> None:
    rig = Watched(chunk_tokens=50)
    rig.submit("running", (3,), 60, ignore_end=True)
    for _ in range(3):
        rig.step()
    before, rig.steps = len(said(rig.events["running"])), []
    rig.submit("long", (*LONG, *LONG), 2, ignore_end=True)
    while not said(rig.events["long"]):
        rig.step()
    assert all(rows == 1 for rows, _ in rig.steps)
    assert len(said(rig.events["running"])) == before + len(rig.steps)
    assert rig.steps[0][1] == [MIXED_FLOOR_TOKENS]  # reading costs as much as a step so far
    assert sum(sum(pieces) for _, pieces in rig.steps) == 80
    rig.run()
    rig.tells_the_truth("running", (3,), 60)
    rig.tells_the_truth("long", (*LONG, *LONG), 2)


def test_in_a_burst_whole_pieces_are_read_along_with_the_rows() -> None:
    rig = Watched(chunk_tokens=10, burst_s=60.0)
    for n in range(3):
        rig.submit(f"r{n}", (n + 1, *LONG[1:20]), 8, ignore_end=True)
    rig.run()
    assert rig.steps[:6] == [(0, [10]), (0, [10]), (1, [10]), (1, [10]), (2, [10]), (2, [10])]
    for n in range(3):
        rig.tells_the_truth(f"r{n}", (n + 1, *LONG[1:20]), 8)


def test_a_number_of_rows_goes_once_by_itself_before_anything_is_read_along() -> None:
    rig = Watched(chunk_tokens=10)
    rig.submit("running", (3,), 500, ignore_end=True)
    rig.step()
    rig.submit("long", LONG * 20, 1, ignore_end=True)
    while not said(rig.events["long"]):
        rig.step()
    alone = [i for i, (rows, pieces) in enumerate(rig.steps) if rows and not pieces]
    assert alone[:2] == [1, 1 + QUIET_EVERY + 1]


def test_rows_stay_where_they_are_and_only_prefixes_are_copied() -> None:
    rig = Watched(chunk_tokens=50)
    prompts = [(n, *LONG, n) for n in range(1, 5)]
    for n, prompt in enumerate(prompts):
        rig.submit(f"r{n}", prompt, 3 + 2 * n, ignore_end=True)
    rig.run()
    assert rig.model.copies == []
    rig.submit("like the first", (*prompts[0][:30], 90), 3, ignore_end=True)
    rig.submit("like it too", (*prompts[0][:30], 91), 3, ignore_end=True)
    rig.run()
    assert {type(copy) for copy in rig.model.copies} == {KvCopy}
    for name, last in (("like the first", 90), ("like it too", 91)):
        rig.tells_the_truth(name, (*prompts[0][:30], last), 3)


def test_the_slot_of_a_batch_row_goes_to_an_interactive_prompt_in_the_same_step() -> None:
    rig = Watched(slots=2, chunk_tokens=50)
    rig.submit("batch", LONG, 30, ignore_end=True, priority=Priority.BATCH)
    rig.submit("other", (7, 8, 9), 30, ignore_end=True)
    for _ in range(6):
        rig.step()
    rig.steps = []
    rig.submit("now", (3, 4), 4, ignore_end=True, priority=Priority.INTERACTIVE)
    rig.step()
    assert rig.steps == [(1, [2])]
    rig.run()
    for name, prompt, tokens in (("batch", LONG, 30), ("other", (7, 8, 9), 30), ("now", (3, 4), 4)):
        rig.tells_the_truth(name, prompt, tokens)


@pytest.mark.parametrize("burst_s", [0.0, 60.0])
def test_a_model_that_is_gone_ends_those_that_hold_a_row_and_no_other(burst_s: float) -> None:
    rig = Watched(chunk_tokens=5, burst_s=burst_s)
    rig.submit("a", LONG, 30, ignore_end=True)
    for _ in range(10):
        rig.step()
    rig.submit("b", LONG, 3, ignore_end=True)
    rig.model.is_dead = True
    rig.step()
    assert rig.ended == ["a", "b"]
    rig.submit("c", LONG, 3, ignore_end=True)
    rig.run()
    rig.tells_the_truth("c", LONG, 3)
