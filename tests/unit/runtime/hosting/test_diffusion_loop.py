"""Requests for pictures end in exactly one event; pictures of one size share runs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.api import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Imagine,
    Picture,
    PictureRecord,
    Priority,
    Progress,
    Request,
    Started,
    is_terminal,
)
from nsedge.bundle.scheduler import SchedulerConfig
from nsedge.runtime.diffusion.registry import begin
from nsedge.runtime.graph.diffusion import Chunk, Encoded, LatentForm, Prompted, Row, levels_of
from nsedge.runtime.hosting.canvas import ImagineWork, Start, begin_canvas
from nsedge.runtime.hosting.diffusion_loop import DiffusionLoop
from nsedge.runtime.machine.arbiter import Arbiter, Rank
from tests.fakes import FakeClock

Floats = NDArray[np.float32]
CONFIG = SchedulerConfig(scheduler="euler")
WAITING = 5
FORM = LatentForm(channels=1, factor=2, scaling=0.5, shift=0.0)
PLACES = 2 * 4 * 4


class Graphs:
    """What a loop runs: each place of what is denoised comes to what its prompt says."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.runs: list[int] = []
        """Rows of each run."""
        self.bad: Callable[[Row], bool] = lambda row: False
        self.numbers = self.decoded = 0.5
        self.fails_to_read = self.fails_to_decode = False

    def read(self, chunks: Sequence[Chunk]) -> Prompted:
        if self.fails_to_read:
            raise RuntimeError("the text encoder is broken")
        states = np.full((3 * len(chunks), 2), float(chunks[0][0][0]), np.float32)
        return Prompted(states=states, pooled=None)

    def encode(self, pixels: Floats) -> Encoded:
        mean = pixels[:1, ::2, ::2]
        return Encoded(mean=mean, deviation=np.zeros_like(mean), form=FORM)

    def denoise(self, rows: Sequence[Row]) -> Floats:
        self.clock.advance(1.0)
        if any(map(self.bad, rows)):
            raise RuntimeError("the denoiser is broken")
        self.runs.append(len(rows))
        return np.stack([np.full_like(row.sample, self.numbers) for row in rows])

    def decode(self, latents: Floats) -> NDArray[np.uint8]:
        if self.fails_to_decode:
            raise RuntimeError("the decoder is broken")
        height, width = latents.shape[1:]
        return levels_of(np.full((3, height * 2, width * 2), self.decoded, np.float32))


class Rig:
    """A loop that the test steps."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.graphs = Graphs(self.clock)
        self.arbiter = Arbiter(clock=self.clock)
        self.events: dict[str, list[Event]] = {}
        self.works: dict[str, ImagineWork] = {}
        self.loop = DiffusionLoop(
            graphs=self.graphs,
            places=PLACES,
            waiting=WAITING,
            seat=self.arbiter.seat(Rank.OTHERS),
            deliver=lambda batch: [emit(event) for emit, event in batch],
            clock=self.clock,
        )

    def ask(
        self,
        name: str,
        *,
        steps: int = 3,
        side: int = 4,
        guided: bool = False,
        count: int = 1,
        token: int = 7,
        start: Start | None = None,
        **fields: Any,
    ) -> ImagineWork:
        record = PictureRecord(
            model="m",
            digest="ab" * 32,
            licence="MIT",
            prompt="a",
            negative_prompt="",
            seed=2**64 - 1,
            steps=steps,
            guidance=2.0 if guided else 1.0,
            guidance_rescale=0.0,
            scheduler="euler",
            width=side * 2,
            height=side * 2,
        )
        task = Imagine(prompt="a", count=count)
        work = ImagineWork(
            request=Request(request_id=name, model="m", task=task, **fields),
            submitted_s=self.clock(),
            prompt=[((token,),)],
            negative=[((0,),)] if guided else None,
            prompt_tokens=2,
            record=record,
            start=start,
        )
        work.canvases = [
            begin_canvas(work, index, begin(CONFIG, steps), (1, side, side))
            for index in range(count)
        ]
        self.works[name] = work
        self.loop.submit(work, self.events.setdefault(name, []).append)
        self.loop.drain_inbox(wait=False)
        return work

    def run(self, steps: int = 60) -> None:
        for _ in range(steps):
            self.loop.drain_inbox(wait=False)
            self.loop.step()

    def told(self, name: str, kind: type) -> list[Any]:
        return [event for event in self.events[name] if isinstance(event, kind)]

    def end(self, name: str) -> Event:
        assert [is_terminal(event) for event in self.events[name]].count(True) == 1
        return self.events[name][-1]


def test_a_picture_is_read_denoised_and_told() -> None:
    rig = Rig()
    rig.clock.advance(1.0)
    rig.ask("a", guided=True)
    rig.run()
    started, *told, end = rig.events["a"]
    assert isinstance(started, Started)
    assert started.prompt_tokens == 2
    assert [one.done for one in told if isinstance(one, Progress)] == [1.0, 2.0, 3.0]
    assert {one.total for one in told if isinstance(one, Progress)} == {3.0}
    (picture,) = rig.told("a", Picture)
    assert picture.record.seed == 2**64 - 1
    assert isinstance(end, Finished)
    assert (end.usage.images, end.usage.steps, end.usage.prompt_tokens) == (1, 3, 2)
    assert end.timings.prefill_s == 3.0
    assert rig.graphs.runs == [2, 2, 2]
    assert rig.loop.is_idle()
    assert rig.works["a"].canvases == []


def test_pictures_of_one_size_share_runs_at_whichever_step_they_are() -> None:
    rig = Rig()
    rig.ask("a", steps=4)
    rig.run(2)
    rig.ask("b", steps=2)
    rig.ask("c", steps=2, side=8)
    rig.run()
    assert sorted(rig.graphs.runs) == [1, 1, 1, 1, 2, 2]
    assert all(isinstance(rig.end(name), Finished) for name in "abc")
    stats = rig.loop.stats()
    assert (stats.images, stats.steps, stats.prompt_tokens) == (3, 6, 6)
    assert stats.finished == {"stop": 3}


def test_a_run_takes_no_more_than_it_may_but_one_picture_always() -> None:
    rig = Rig()
    for name in "abc":
        rig.ask(name, steps=1)
    rig.ask("large", steps=1, side=16, guided=True)
    rig.run()
    assert sorted(rig.graphs.runs) == [1, 2, 2]


def test_a_short_request_does_not_wait_for_all_of_a_long_one() -> None:
    rig = Rig()
    rig.ask("long", steps=40, side=8)
    rig.run(12)
    rig.ask("short", steps=2)
    rig.run(8)
    assert isinstance(rig.end("short"), Finished)
    assert not rig.told("long", Finished)
    rig.run()
    assert isinstance(rig.end("long"), Finished)


def test_who_is_due_first_goes_first() -> None:
    rig = Rig()
    rig.ask("late", steps=1, side=8, priority=Priority.BATCH)
    rig.ask("soon", steps=1, priority=Priority.INTERACTIVE)
    rig.run(3)
    assert rig.told("soon", Progress)
    assert not rig.told("late", Progress)


def test_beside_running_streams_a_picture_goes_alone() -> None:
    rig = Rig()
    seat = rig.arbiter.seat(Rank.STREAMS)
    for _ in range(8):
        with seat:
            rig.clock.advance(0.01)
    rig.ask("a", steps=1)
    rig.ask("b", steps=1)
    with seat:
        rig.clock.advance(0.01)
    rig.run(3)
    assert rig.graphs.runs[:1] == [1]


def test_of_several_pictures_each_comes_as_it_is_done() -> None:
    rig = Rig()
    rig.ask("a", count=3, steps=2)
    rig.run()
    pictures = rig.told("a", Picture)
    assert sorted(one.index for one in pictures) == [0, 1, 2]
    assert {one.index: one.record.seed for one in pictures} == {0: 2**64 - 1, 1: 0, 2: 1}
    end = rig.end("a")
    assert isinstance(end, Finished)
    assert (end.usage.images, end.usage.steps) == (3, 6)


def test_cancelled_at_any_time_it_ends_once() -> None:
    for steps in range(6):
        rig = Rig()
        work = rig.ask("a", steps=4)
        rig.run(steps)
        rig.loop.cancel(work)
        rig.loop.cancel(work)
        rig.run(3)
        end = rig.end("a")
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.CANCELLED
        assert end.usage.steps == max(0, steps - 1)
        assert rig.loop.is_idle()


def test_one_that_is_late_fails_between_two_steps() -> None:
    rig = Rig()
    rig.ask("a", steps=50, deadline_s=3.5)
    rig.run()
    end = rig.end("a")
    assert isinstance(end, Failed)
    assert end.code == "deadline_exceeded"
    assert len(rig.told("a", Progress)) == 4


def test_one_too_many_is_refused() -> None:
    rig = Rig()
    for number in range(WAITING + 1):
        rig.ask(str(number))
    end = rig.end(str(WAITING))
    assert isinstance(end, Failed)
    assert end.code == "queue_full"


def test_who_makes_a_run_fail_fails_alone() -> None:
    rig = Rig()
    rig.ask("a")
    rig.ask("b", token=9)
    rig.graphs.bad = lambda row: row.prompted.states[0, 0] == 9.0
    rig.run()
    bad = rig.end("b")
    assert isinstance(bad, Failed)
    assert bad.code == "engine_failure"
    assert isinstance(rig.end("a"), Finished)


@pytest.mark.parametrize("part", ["step", "scaled"])
def test_a_scheduler_that_fails_ends_its_picture_alone(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def divide(*_: Any) -> Any:
        raise ZeroDivisionError

    rig = Rig()
    rig.ask("a")
    work = rig.ask("b")
    monkeypatch.setattr(work.canvases[0].scheduler, part, divide)
    rig.run()
    bad = rig.end("b")
    assert isinstance(bad, Failed)
    assert bad.code == "engine_failure"
    assert isinstance(rig.end("a"), Finished)


def test_streams_come_between_the_pieces_of_a_prompt() -> None:
    rig = Rig()
    work = rig.ask("a", guided=True)
    work.prompt *= 3
    assert work.negative is not None
    work.negative *= 3
    rig.run(1)
    assert rig.arbiter.waits()[Rank.OTHERS].count == 6
    assert work.prompted.states.shape == (9, 2)
    rig.run()
    assert isinstance(rig.end("a"), Finished)


def test_a_picture_that_is_no_numbers_fails() -> None:
    rig = Rig()
    rig.graphs.numbers = float("nan")
    rig.ask("a")
    rig.run()
    end = rig.end("a")
    assert isinstance(end, Failed)
    assert end.code == "computation_failure"


def test_a_decoder_that_gives_no_numbers_is_told_of() -> None:
    rig = Rig()
    rig.graphs.decoded = float("nan")
    rig.ask("a")
    rig.run()
    end = rig.end("a")
    assert isinstance(end, Failed)
    assert end.code == "computation_failure"
    assert not rig.told("a", Picture)


@pytest.mark.parametrize("part", ["fails_to_read", "fails_to_decode"])
def test_what_fails_beside_the_denoiser_ends_its_request_alone(part: str) -> None:
    rig = Rig()
    setattr(rig.graphs, part, True)
    rig.ask("a")
    rig.run()
    end = rig.end("a")
    assert isinstance(end, Failed)
    assert end.code == "engine_failure"
    setattr(rig.graphs, part, False)
    rig.ask("b")
    rig.run()
    assert isinstance(rig.end("b"), Finished)


def test_a_loop_that_stops_leaves_nobody_without_an_end() -> None:
    rig = Rig()
    rig.ask("a", steps=1000)
    rig.loop.start()
    rig.loop.stop()
    end = rig.end("a")
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.CANCELLED


def test_what_a_loop_held_goes_with_it() -> None:
    rig = Rig()
    rig.ask("a")
    rig.run()
    rig.loop.start()
    rig.loop.stop()
    gone = weakref.ref(rig.graphs)
    gc.disable()
    try:
        del rig
        assert gone() is None
    finally:
        gc.enable()


def test_what_is_there_is_gone_on_from_with_noise_on_it() -> None:
    rig = Rig()
    pixels = np.full((3, 8, 8), 0.5, np.float32)
    work = rig.ask("a", steps=4, start=Start(pixels=pixels, skipped=3, mask=None))
    (canvas,) = work.canvases
    rig.run(1)
    assert canvas.original is not None
    assert (canvas.original == 0.25).all()
    wanted = canvas.scheduler.noised(canvas.original, canvas.noise)
    assert (canvas.latents == wanted).all()
    rig.run()
    assert [one.total for one in rig.told("a", Progress)] == [1.0]
    assert isinstance(rig.end("a"), Finished)


@pytest.mark.parametrize("skipped", [0, 2])
def test_what_a_mask_keeps_comes_out_as_it_was(skipped: int) -> None:
    rig = Rig()
    pixels = np.random.default_rng(1).uniform(-1, 1, (3, 8, 8)).astype(np.float32)
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    work = rig.ask("a", steps=4, start=Start(pixels=pixels, skipped=skipped, mask=mask))
    (canvas,) = work.canvases
    rig.run()
    assert isinstance(rig.end("a"), Finished)
    assert canvas.original is not None
    assert (canvas.latents[:, ~mask] == canvas.original[:, ~mask]).all()
    assert (canvas.latents[:, mask] != canvas.original[:, mask]).all()
