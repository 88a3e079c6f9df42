"""The loop of a model of pictures: reads prompts, takes noise away step by step, and makes files.

Its thread alone runs the graphs. Between two steps it hears of requests that come and go. Pictures
of one size are denoised together, whichever step each is at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nsedge import native
from nsedge.api import Failed, Finished, FinishReason, ModelStats, ModelTimes, Progress
from nsedge.errors import ComputationFailure, EngineFailure, NsedgeError, QueueFull
from nsedge.runtime.delivery import Deliver
from nsedge.runtime.encode.batching import DUE_S
from nsedge.runtime.graph.diffusion import Chunk, Encoded, Pixels, Prompted, Row, joined
from nsedge.runtime.hosting.canvas import Canvas, ImagineWork
from nsedge.runtime.loop import WorkLoop
from nsedge.runtime.machine.arbiter import Seat
from nsedge.telemetry.histogram import TOKEN_BOUNDS_S, WAIT_BOUNDS_S, Stopwatch

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
_WEIGHT = 0.2
"""Of the newest run in the running mean of seconds a place of latents."""


class Graphs(Protocol):
    """What the loop runs."""

    def read(self, chunks: Sequence[Chunk]) -> Prompted:
        """What a prompt means."""

    def encode(self, pixels: Floats) -> Encoded:
        """The latents of a picture."""

    def denoise(self, rows: Sequence[Row]) -> Floats:
        """What the model gives of rows of one size."""

    def decode(self, latents: Floats) -> Pixels:
        """The picture of latents."""


class DiffusionLoop(WorkLoop[ImagineWork]):
    """Runs requests for pictures to their end."""

    def __init__(
        self,
        *,
        graphs: Graphs,
        places: int,
        waiting: int,
        seat: Seat,
        deliver: Deliver,
        clock: Callable[[], float],
        preview: Floats | None = None,
        name: str = "diffusion",
    ) -> None:
        """places: of latents, that one run of the denoiser may take, unless one picture has more.
        `waiting` requests may be here. preview: float32 [3, channels + 1], what channels of latents
        add to red, green and blue; None shows none."""
        super().__init__(deliver=deliver, clock=clock, name=name)
        self._graphs = graphs
        self._places = places
        self._most = waiting
        self._seat = seat
        self._preview = preview
        self._place_s = 0.0
        self._running = 0
        self._runs = 0
        self._run_s = 0.0
        self._prompt_tokens = 0
        self._images = 0
        self._queue_times = Stopwatch(WAIT_BOUNDS_S)
        self._work_times = Stopwatch(WAIT_BOUNDS_S)
        self._request_times = Stopwatch(WAIT_BOUNDS_S)
        self._run_times = Stopwatch(TOKEN_BOUNDS_S)

    def stats(self) -> ModelStats:
        """Counters, read from any thread: each is true, together they may be a step apart."""
        nothing = Stopwatch(WAIT_BOUNDS_S).read()
        running = self._running
        return ModelStats(
            running=running,
            waiting=max(0, len(self.works) - running),
            slots=self._most,
            kv_tokens_used=0,
            kv_tokens_capacity=0,
            steps=self._runs,
            step_s=self._run_s,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=0,
            images=self._images,
            finished=dict(self.ended),
            times=ModelTimes(
                queue=self._queue_times.read(),
                prefill=self._work_times.read(),
                first_token=nothing,
                inter_token=nothing,
                request=self._request_times.read(),
                step=self._run_times.read(),
            ),
        )

    def is_idle(self) -> bool:
        """Whether no picture is asked for."""
        return not self.works

    def take(self, work: ImagineWork) -> None:
        """Let a request wait for its turn."""
        if len(self.works) > self._most:
            self.fail(work, QueueFull(f"{self._most} requests are here already", retry_after_s=1.0))
            return
        work.due_s = self.clock() + DUE_S[work.request.priority]

    def drop(self, work: ImagineWork) -> None:
        """Cancel a request."""
        self._end(work, work.end(FinishReason.CANCELLED, self.clock()))

    def fail(self, work: ImagineWork, error: NsedgeError) -> None:
        """End a request badly; none that has ended."""
        self._end(work, Failed.of(work.request.request_id, error))

    def step(self) -> None:
        """Do one piece of work: read a prompt, make a file of a picture that is denoised, or take
        noise away, whichever is due first."""
        self.expire()
        unread = [work for work in self.works if work.read is None]
        canvases = [one for work in self.works for one in work.canvases if work.read is not None]
        canvases.sort(key=lambda one: one.rank)
        denoised = next((one for one in canvases if one.is_denoised), None)
        if denoised is not None:
            self._finish(denoised)
        elif unread:
            self._begin(min(unread, key=lambda one: one.due_s))
        elif canvases:
            self._denoise(self._batch(canvases))
        self.hand_over()

    def _begin(self, work: ImagineWork) -> None:
        """Have a request's prompts read."""
        self.tell(work, work.begin(self.clock()))
        try:
            work.read = self._read(work.prompt)
            if work.negative is not None:
                work.without = self._read(work.negative) if work.negative else work.read.nothing()
            if work.start is not None:
                with self._seat, native.pausing(self._seat.pause):
                    encoded = self._graphs.encode(work.start.pixels)
                for one in work.canvases:
                    one.go_on_from(encoded, work.start)
        except Exception:
            self._break_off(work, "the model failed on the prompt, or what it goes on from")
            return
        self._prompt_tokens += work.prompt_tokens

    def _read(self, chunks: Sequence[Chunk]) -> Prompted:
        """What a prompt means, each of its pieces in a turn of its own."""
        pieces = []
        for chunk in chunks:
            with self._seat, native.pausing(self._seat.pause):
                pieces.append(self._graphs.read([chunk]))
        return joined(pieces)

    def _batch(self, canvases: list[Canvas]) -> list[Canvas]:
        """Those of the first one's size that go into one run with it. Beside running streams it
        goes alone, unless a run takes no longer than they leave it."""
        first, slice_s = canvases[0], self._seat.slice_s()
        most = self._places
        if slice_s is not None:
            most = min(most, int(slice_s / self._place_s)) if self._place_s else 0
        batch: list[Canvas] = []
        places = 0
        for one in canvases:
            if one.shape == first.shape:
                places += _places(one)
                if batch and places > most:
                    break
                batch.append(one)
        return batch

    def _denoise(self, batch: list[Canvas]) -> None:
        """A step of each of these."""
        began_s = self.clock()
        self._running = len({one.owner for one in batch})
        try:
            with self._seat, native.pausing(self._seat.pause):
                ran_s = self.clock()
                outputs = self._outputs(batch)
                took_s = self.clock() - ran_s
        finally:
            self._running = 0
        self._count(batch, took_s)
        for one, given in zip(batch, outputs, strict=True):
            one.spent_s += self.clock() - began_s
            if given is None:
                self.fail(one.owner, EngineFailure("the model failed on the picture"))
            elif one.owner in self.works:
                self._go_on(one, given)

    def _count(self, batch: list[Canvas], took_s: float) -> None:
        places = sum(map(_places, batch))
        grown = took_s / places - self._place_s
        self._place_s += grown * (_WEIGHT if self._place_s else 1.0)
        self._runs += 1
        self._run_s += took_s
        self._run_times.add(took_s)

    def _outputs(self, batch: list[Canvas]) -> list[list[Floats] | None]:
        """What the denoiser gives of each, None where it fails on that one: a run that fails is cut
        in two until it is known whose fault it was."""
        try:
            asked = [one.rows() for one in batch]
            made = iter(self._graphs.denoise([row for rows in asked for row in rows]))
            return [[next(made) for _ in rows] for rows in asked]
        except Exception:
            if len(batch) == 1:
                log.exception("a picture was not denoised", extra=_label(batch[0].owner))
                return [None]
            half = len(batch) // 2
            return [*self._outputs(batch[:half]), *self._outputs(batch[half:])]

    def _go_on(self, one: Canvas, given: list[Floats]) -> None:
        """Take a step by what the denoiser gave."""
        work = one.owner
        try:
            with np.errstate(all="ignore"):
                one.take(given)
        except Exception:
            self._break_off(work, "the scheduler failed on the picture")
            return
        if not np.isfinite(one.latents).all():
            self.fail(work, ComputationFailure("the picture is no numbers any more"))
            return
        work.calls += 1
        self.tell(
            work,
            Progress(
                request_id=work.request.request_id,
                done=float(work.calls),
                total=float(work.total_calls),
                unit="step",
            ),
        )
        every = work.preview_every
        if every and one.scheduler.at % every == 0 and not one.is_denoised:
            self._show(one)

    def _show(self, one: Canvas) -> None:
        """Tell what a picture would be."""
        if self._preview is not None:
            self.tell(one.owner, one.preview(self._preview))

    def _finish(self, one: Canvas) -> None:
        """Make a file of a picture that is denoised."""
        work = one.owner
        try:
            with self._seat, native.pausing(self._seat.pause):
                pixels = self._graphs.decode(one.latents)
            picture = one.picture(pixels)
        except ComputationFailure as error:
            self.fail(work, error)
            return
        except Exception:
            self._break_off(work, "the model failed on the picture")
            return
        work.canvases.remove(one)
        work.done += 1
        self._images += 1
        self.tell(work, picture)
        if not work.canvases:
            self._end(work, work.end(FinishReason.STOP, self.clock()))

    def _break_off(self, work: ImagineWork, why: str) -> None:
        """End a request for what was just raised."""
        log.exception(why, extra=_label(work))
        self.fail(work, EngineFailure(why))

    def _end(self, work: ImagineWork, event: Finished | Failed) -> None:
        if work not in self.works:
            return
        self.tell(work, event)
        del self.works[work]
        work.canvases.clear()
        if isinstance(event, Failed):
            self.ended[event.code] += 1
            return
        self.ended[event.reason.value] += 1
        times = event.timings
        self._queue_times.add(times.queue_s)
        self._work_times.add(times.prefill_s)
        if event.reason is not FinishReason.CANCELLED:
            self._request_times.add(times.queue_s + times.prefill_s)


def _places(one: Canvas) -> int:
    """Of latents, that a run takes for a picture."""
    _, height, width = one.latents.shape
    return int(height * width) * (1 if one.owner.without is None else 2)


def _label(work: ImagineWork) -> dict[str, str]:
    return {"request_id": work.request.request_id}
