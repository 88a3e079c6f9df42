"""The speech loop: asks transcripts what they want, has windows heard, and has text written.

Its thread alone runs the encoder and the transcripts; the engine's runs the decoder, for all of
them at once. What the engine writes comes back through the inbox that requests come by.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from nsedge import native
from nsedge.api import (
    Event,
    Failed,
    Finished,
    FinishReason,
    ModelStats,
    Started,
    Timings,
    Usage,
)
from nsedge.errors import (
    EngineFailure,
    NsedgeError,
    QueueFull,
)
from nsedge.runtime.audio.coming import Attend, Came
from nsedge.runtime.delivery import Deliver, Emit
from nsedge.runtime.encode.batching import DUE_S
from nsedge.runtime.hosting.speech_rows import Rows
from nsedge.runtime.hosting.speech_work import Desk, Hearing, SpeechWork, Writing
from nsedge.runtime.loop import WorkLoop
from nsedge.runtime.machine.arbiter import Seat
from nsedge.runtime.speech.asks import (
    Align,
    Aligned,
    Answer,
    Ask,
    Decode,
    Decoded,
    Detect,
    Detected,
    Hear,
    Heard,
    Tell,
    Told,
)
from nsedge.runtime.speech.vocabulary import SpeechTokens
from nsedge.telemetry.histogram import WAIT_BOUNDS_S, Stopwatch

log = logging.getLogger(__name__)
LOOK_S = 0.5
"""Between two looks for those to whom no sound came for too long."""


class SpeechLoop(WorkLoop[SpeechWork]):
    """Runs requests for transcripts to their end, a window a step."""

    def __init__(
        self,
        *,
        hearing: Hearing,
        rows: int,
        tokens: SpeechTokens,
        waiting: int,
        seat: Seat,
        deliver: Deliver,
        clock: Callable[[], float],
        name: str = "speech",
    ) -> None:
        """`rows` of the memory; `waiting` requests may wait; the encoder runs from `seat`."""
        super().__init__(deliver=deliver, clock=clock, name=name)
        self._hearing = hearing
        self._rows = Rows(rows)
        self._tokens = tokens
        self._most = rows + waiting
        self._seat = seat
        self._desk: Desk | None = None
        self._to_hear: list[SpeechWork] = []
        self._attending: set[SpeechWork] = set()
        """Those that wait for sound."""
        self._queue_times = Stopwatch(WAIT_BOUNDS_S)
        self._request_times = Stopwatch(WAIT_BOUNDS_S)
        self._running = 0
        self._audio_s = 0.0

    def use(self, desk: Desk | None) -> None:
        """Have text written at `desk`; None lets go of it, once stopped."""
        self._desk = desk

    def sound_came(self, work: SpeechWork) -> None:
        """Sound came for a request that hears it while it comes; from any thread."""
        self.ask(lambda: self._heed(work))

    def written(self, events: list[tuple[Emit, Event]]) -> None:
        """What the engine has to tell, from its thread."""
        self.ask(lambda: self._read(events))

    def stats(self, engine: ModelStats) -> ModelStats:
        """The engine's, of whole requests where they count."""
        running = self._running
        times = (
            None
            if engine.times is None
            else dataclasses.replace(
                engine.times, queue=self._queue_times.read(), request=self._request_times.read()
            )
        )
        return dataclasses.replace(
            engine,
            running=running,
            waiting=max(0, len(self.works) - running),
            finished=dict(self.ended),
            times=times,
            audio_s=self._audio_s,
        )

    def step(self) -> None:
        """Have the window heard that is due first, if any can be."""
        self.expire()
        work = self._next()
        if work is not None:
            self._to_hear.remove(work)
            self._hear(work)
        self.hand_over()

    def is_idle(self) -> bool:
        """Whether no window can be heard."""
        return self._next() is None

    def patience_s(self) -> float | None:
        """LOOK_S, where sound is waited for."""
        return LOOK_S if self._attending else None

    def take(self, work: SpeechWork) -> None:
        """Begin a transcript, or refuse it where too many are here."""
        if len(self.works) > self._most:
            full = QueueFull(f"{self._most} recordings are here already", retry_after_s=1.0)
            self.fail(work, full)
            return
        self._go_on(work, None)

    def drop(self, work: SpeechWork) -> None:
        """Cancel a request."""
        self._finish(work, FinishReason.CANCELLED)

    def fail(self, work: SpeechWork, error: NsedgeError) -> None:
        """End a request badly; none that has ended."""
        if not work.ended:
            self._end(work, error.code, Failed.of(work.request_id, error))

    def late(self, work: SpeechWork, now_s: float) -> NsedgeError | None:
        """Its deadline's error, or that of sound which no longer comes."""
        return super().late(work, now_s) or work.stalled(now_s)

    def _read(self, events: list[tuple[Emit, Event]]) -> None:
        """Take what the engine wrote."""
        for emit, event in events:
            emit(event)

    def _next(self) -> SpeechWork | None:
        """Who hears next: of those that can, who is due first."""
        able = [work for work in self._to_hear if self._rows.has_one(work, self._to_hear)]
        return min(able, key=lambda work: work.due_s, default=None)

    def _hear(self, work: SpeechWork) -> None:
        """Hear the next window of a recording."""
        self._begin(work)
        try:
            window = work.recording.window(work.start)
            if window.frames and not window.is_silent:
                row = self._rows.take(work, self._to_hear)
                features = self._hearing.features(window)
                with self._seat, native.pausing(self._seat.pause):
                    self._hearing.run(features, row)
        except NsedgeError as error:
            self.fail(work, error)
        except Exception:
            log.exception("a window was not heard", extra={"request_id": work.request_id})
            self.fail(work, EngineFailure("the model failed on the recording"))
        else:
            self._go_on(work, Heard(frames=window.frames, is_silent=window.is_silent))

    def _begin(self, work: SpeechWork) -> None:
        if work.started_s is not None:
            return
        work.started_s = self.clock()
        self._running += 1
        queue_s = work.started_s - work.submitted_s
        self._queue_times.add(queue_s)
        self.tell(work, Started(request_id=work.request_id, prompt_tokens=0, queue_s=queue_s))

    def _go_on(self, work: SpeechWork, answer: Answer | None) -> None:
        """Give a transcript its answer, and do what it asks next."""
        try:
            asked = next(work.steps) if answer is None else work.steps.send(answer)
            while (told := self._asked(work, asked)) is not None:
                asked = work.steps.send(told)
        except StopIteration:
            self._finish(work, FinishReason.STOP)
        except NsedgeError as error:
            self.fail(work, error)
        except Exception:
            log.exception("a transcript broke off", extra={"request_id": work.request_id})
            self.fail(work, EngineFailure("the transcript broke off"))

    def _asked(self, work: SpeechWork, asked: Ask) -> Answer | None:
        """Begin what is asked; the answer, where there is one at once."""
        match asked:
            case Tell(event=event):
                self.tell(work, event)
                return Told()
            case Hear(start=start):
                work.start = start
                live = work.coming is not None
                work.due_s = self.clock() + (0.0 if live else DUE_S[work.request.priority])
                self._to_hear.append(work)
            case Attend():
                return self._attend(work, asked)
            case Detect() | Decode():
                self._write(work, asked)
            case Align():
                return self._align(work, asked)
        return None

    def _attend(self, work: SpeechWork, asked: Attend) -> Came | None:
        """What is to be done of sound that comes; None where that has to come first. Meanwhile the
        row is anybody's."""
        self._begin(work)
        self._rows.give(work)
        work.pause(asked, self.clock())
        self._attending.add(work)
        return self._came(work)

    def _heed(self, work: SpeechWork) -> None:
        """Go on with a request that waited for sound, where that is enough."""
        if work not in self._attending:
            return
        work.came_s = self.clock()
        try:
            came = self._came(work)
        except NsedgeError as error:
            self.fail(work, error)
        except Exception:
            log.exception("sound was not taken", extra={"request_id": work.request_id})
            self.fail(work, EngineFailure("the sound could not be taken"))
        else:
            if came is not None:
                self._go_on(work, came)

    def _came(self, work: SpeechWork) -> Came | None:
        if work.coming is None or work.attends is None:
            raise RuntimeError("no sound comes for this request")
        came = work.coming.attend(work.attends)
        if came is not None:
            self._attending.discard(work)
            work.resume(self.clock())
        return came

    def _align(self, work: SpeechWork, asked: Align) -> Aligned:
        if work.row is None:
            raise RuntimeError("nothing was heard that words could be found in")
        with self._seat:
            return self._hearing.align(asked, work.row)

    def _write(self, work: SpeechWork, wanted: Detect | Decode) -> None:
        count = wanted.samples if isinstance(wanted, Decode) else 1
        work.wanted, work.running = wanted, count
        work.takes = [Writing(work) for _ in range(count)]
        for number, writing in enumerate(work.takes):
            self._need_desk().write(writing, wanted, number)

    def saw(self, writing: Writing, event: Event) -> None:
        """Take an event of a job; on the loop's thread."""
        if not writing.saw(event):
            return
        work = writing.work
        work.running -= 1
        if work.running:
            return
        takes, work.takes = work.takes, []
        if work.ended:
            self._rows.give(work)
            return
        failure = next((one.failure for one in takes if one.failure is not None), None)
        if failure is not None:
            self.fail(work, failure.error())
        else:
            self._go_on(work, self._answer(work, takes))

    def _answer(self, work: SpeechWork, written: list[Writing]) -> Answer:
        """What came of all that was written."""
        after = next((one.after_start for one in written if one.after_start is not None), None)
        if after is None:
            raise RuntimeError("nobody looked at what comes after the start")
        if isinstance(work.wanted, Detect):
            likely = {code: float(after[token]) for code, token in self._tokens.languages.items()}
            total = sum(likely.values()) or 1.0
            return Detected(probabilities={code: one / total for code, one in likely.items()})
        takes = tuple(one.take for one in written)
        return Decoded(takes=takes, no_speech_prob=float(after[self._tokens.no_speech]))

    def _finish(self, work: SpeechWork, reason: FinishReason) -> None:
        if work.ended:
            return
        now_s = self.clock()
        began_s = now_s if work.started_s is None else work.started_s
        event = Finished(
            request_id=work.request_id,
            reason=reason,
            usage=Usage(
                prompt_tokens=0,
                completion_tokens=work.transcript.written,
                audio_s=work.audio.read_s,
            ),
            timings=Timings(
                queue_s=began_s - work.submitted_s, prefill_s=0.0, decode_s=now_s - began_s
            ),
        )
        if reason is not FinishReason.CANCELLED:
            self._request_times.add(now_s - work.submitted_s)
        self._end(work, reason.value, event)

    def _end(self, work: SpeechWork, how: str, event: Finished | Failed) -> None:
        """End a request, and what is still written of it."""
        if work not in self.works:
            return
        self.tell(work, event)
        work.ended = True
        work.steps.close()
        del self.works[work]
        self.ended[how] += 1
        self._running -= work.started_s is not None
        self._audio_s += work.audio.read_s
        self._attending.discard(work)
        if work in self._to_hear:
            self._to_hear.remove(work)
        if work.running:
            for writing in work.takes:
                self._need_desk().cancel(writing)
        else:
            self._rows.give(work)

    def _need_desk(self) -> Desk:
        if self._desk is None:
            raise RuntimeError("nobody writes")
        return self._desk
