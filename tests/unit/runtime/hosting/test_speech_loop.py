"""Transcripts end in exactly one event, and rows of the memory are nobody's then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.api import (
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Media,
    Priority,
    Request,
    Segment,
    Started,
    Timings,
    Transcribe,
    Usage,
    is_terminal,
)
from nsedge.errors import InvalidMedia
from nsedge.runtime.audio.recording import Window
from nsedge.runtime.audio.samples import FRAME
from nsedge.runtime.hosting.speech_loop import SpeechLoop
from nsedge.runtime.hosting.speech_work import SpeechWork, Writing
from nsedge.runtime.machine.arbiter import Arbiter, Rank
from nsedge.runtime.speech.asks import (
    Decode,
    Decoded,
    Detect,
    Detected,
    Hear,
    Heard,
    Steps,
    Take,
    Tell,
    Told,
    ask,
)
from nsedge.runtime.speech.rules import Rules
from nsedge.runtime.speech.vocabulary import SpeechTokens
from tests.fakes import FakeClock
from tests.unit.sample_stats import model

TOKENS = SpeechTokens(
    end=10,
    start=11,
    start_of_previous=12,
    no_speech=13,
    no_timestamps=14,
    first_timestamp=17,
    languages={"en": 15, "de": 16},
)
SIZE = 20


@dataclass
class Script:
    """Hears `windows` windows, and writes something of each `samples` times."""

    request_id: str
    windows: int = 1
    samples: int = 1
    written: int = 0
    heard: list[int] = field(default_factory=list)
    takes: list[tuple[Take, ...]] = field(default_factory=list)
    languages: list[dict[str, float]] = field(default_factory=list)

    def steps(self) -> Steps[None]:
        for number in range(self.windows):
            heard = yield from ask(Hear(start=3000 * number), Heard)
            self.heard.append(heard.frames)
            if heard.is_silent:
                continue
            if not number:
                detected = yield from ask(Detect(), Detected)
                self.languages.append(dict(detected.probabilities))
            wanted = Decode(
                prompt=(12, 3, 11, 15),
                temperature=0.5,
                samples=self.samples,
                rules=Rules(TOKENS),
                max_tokens=5,
            )
            decoded = yield from ask(wanted, Decoded)
            self.takes.append(decoded.takes)
            self.written += 1
            said = Segment(request_id=self.request_id, seq=number, start_s=0.0, end_s=1.0, text="a")
            yield from ask(Tell(event=said), Told)


@dataclass
class FakeRecording:
    """So many frames of silence; `broken` raises with the second window."""

    frames: int = 6000
    broken: bool = False
    silent: bool = False

    def window(self, start: int) -> Window:
        if self.broken and start:
            raise InvalidMedia("the sound breaks off")
        frames = max(0, min(3000, self.frames - start))
        return Window(
            samples=np.zeros(FRAME, np.float32),
            frames=frames,
            is_last=start + 3000 >= self.frames,
            is_silent=self.silent,
        )


class FakeAudio:
    read_s = 12.5


class Rig:
    """A loop that the test steps; what is asked of encoder and engine, and what clients hear."""

    def __init__(self, *, rows: int = 2, waiting: int = 4) -> None:
        self.clock = FakeClock()
        self.events: dict[str, list[Event]] = {}
        self.scripts: dict[str, Script] = {}
        self.works: dict[str, SpeechWork] = {}
        self.rows: list[int] = []
        self.writing: list[Writing] = []
        self.cancelled: list[Writing] = []
        self.fails: Callable[[], bool] = lambda: False
        self.loop = SpeechLoop(
            hearing=self,
            rows=rows,
            tokens=TOKENS,
            waiting=waiting,
            seat=Arbiter(clock=self.clock).seat(Rank.OTHERS),
            deliver=lambda batch: [emit(event) for emit, event in batch],
            clock=self.clock,
        )
        self.loop.use(self)

    # What a loop asks for.

    def features(self, window: Window) -> NDArray[np.float32]:
        return window.samples

    def run(self, features: NDArray[np.float32], row: int) -> None:
        if self.fails():
            raise RuntimeError("the encoder is broken")
        self.rows.append(row)

    def write(self, writing: Writing, wanted: Detect | Decode, number: int) -> None:
        self.writing.append(writing)

    def cancel(self, writing: Writing) -> None:
        self.cancelled.append(writing)

    # What a test does.

    def ask(
        self,
        name: str,
        *,
        windows: int = 1,
        samples: int = 1,
        broken: bool = False,
        silent: bool = False,
        priority: Priority = Priority.NORMAL,
        deadline_s: float | None = None,
    ) -> None:
        task = Transcribe(media=Media(type="audio/wav", data=b"x"))
        request = Request(
            request_id=name, model="m", task=task, priority=priority, deadline_s=deadline_s
        )
        script = self.scripts[name] = Script(name, windows=windows, samples=samples)
        work = self.works[name] = SpeechWork(
            request=request,
            transcript=script,
            recording=FakeRecording(broken=broken, silent=silent),
            audio=FakeAudio(),
            submitted_s=self.clock(),
        )
        self.loop.submit(work, self.events.setdefault(name, []).append)
        self.loop.drain_inbox(wait=False)

    def answer(self, *, tokens: tuple[int, ...] = (1, 2), failure: Failed | None = None) -> None:
        """Let the engine tell what was written of everything that is wanted."""
        wanted, self.writing = self.writing, []
        events: list[Event]
        for writing in wanted:
            writing.look(np.arange(SIZE, dtype=np.float32) / 4)
            if failure is not None:
                events = [failure]
            else:
                ending = Finished(
                    request_id="",
                    reason=FinishReason.STOP,
                    usage=Usage(prompt_tokens=4, completion_tokens=3),
                    timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
                    cumulative_logprob=-1.5,
                )
                events = [Delta(request_id="", seq=0, text="", token_ids=tokens), ending]
            self.loop.written(
                [(lambda event, of=writing: self.loop.saw(of, event), event) for event in events]
            )
        self.loop.drain_inbox(wait=False)

    def run_all(self) -> None:
        for _ in range(40):
            self.loop.step()
            self.answer()

    def kinds(self, name: str) -> list[str]:
        return [type(event).__name__ for event in self.events[name]]


def test_a_transcript_is_heard_written_and_told() -> None:
    rig = Rig()
    rig.ask("a", windows=2)
    rig.run_all()
    assert rig.kinds("a") == ["Started", "Segment", "Segment", "Finished"]
    finished = rig.events["a"][-1]
    assert isinstance(finished, Finished)
    assert finished.usage == Usage(prompt_tokens=0, completion_tokens=2, audio_s=12.5)
    script = rig.scripts["a"]
    assert script.heard == [3000, 3000]
    assert script.takes == [(Take(tokens=(1, 2), sum_logprob=-1.5),)] * 2
    likely = script.languages[0]
    assert sum(likely.values()) == pytest.approx(1.0)
    assert likely["de"] > likely["en"]


def test_a_silent_window_is_not_encoded() -> None:
    rig = Rig()
    rig.ask("a", windows=2, silent=True)
    rig.run_all()
    assert rig.kinds("a") == ["Started", "Finished"]
    assert (rig.rows, rig.scripts["a"].heard) == ([], [3000, 3000])


def test_all_samples_are_waited_for() -> None:
    rig = Rig()
    rig.ask("a", samples=3)
    rig.loop.step()
    rig.answer()  # the language
    assert len(rig.writing) == 3
    rig.answer()
    assert len(rig.scripts["a"].takes[0]) == 3
    assert rig.kinds("a")[-1] == "Finished"


def test_more_recordings_than_rows_wait_for_one_and_no_row_is_shared() -> None:
    rig = Rig(rows=2)
    for name in "abcd":
        rig.ask(name, windows=2)
    for _ in range(4):
        rig.loop.step()
    held = [work.row for work in rig.works.values() if work.row is not None]
    assert sorted(held) == [0, 1]
    rig.run_all()
    assert all(rig.kinds(name)[-1] == "Finished" for name in "abcd")
    assert rig.loop.ended == {"stop": 4}
    assert rig.loop.stats(model()).audio_s == 4 * 12.5


def test_the_urgent_one_is_heard_first() -> None:
    rig = Rig(rows=1)
    rig.ask("batch", priority=Priority.BATCH)
    rig.ask("urgent", priority=Priority.INTERACTIVE)
    rig.loop.step()
    assert rig.kinds("urgent") == ["Started"]
    assert rig.events["batch"] == []


def test_a_cancelled_transcript_keeps_its_row_until_nothing_is_written_of_it() -> None:
    rig = Rig(rows=1)
    rig.ask("a")
    rig.ask("b")
    rig.loop.step()
    rig.loop.cancel(rig.works["a"])
    rig.loop.cancel(rig.works["a"])
    rig.loop.drain_inbox(wait=False)
    assert [type(one).__name__ for one in rig.events["a"]] == ["Started", "Finished"]
    assert rig.cancelled == rig.writing
    rig.loop.step()
    assert rig.rows == [0]  # b has heard nothing yet
    rig.run_all()
    assert rig.rows == [0, 0]
    assert rig.kinds("b")[-1] == "Finished"
    assert sum(map(is_terminal, rig.events["a"])) == 1


def test_what_goes_wrong_with_one_recording_fails_it_alone() -> None:
    rig = Rig()
    rig.ask("broken", windows=2, broken=True)
    rig.ask("whole", windows=2)
    rig.run_all()
    failed = rig.events["broken"][-1]
    assert isinstance(failed, Failed)
    assert failed.code == "invalid_media"
    assert rig.kinds("whole")[-1] == "Finished"


def test_an_encoder_that_raises_and_a_text_that_fails_end_the_request() -> None:
    rig = Rig()
    rig.fails = lambda: True
    rig.ask("a")
    rig.loop.step()
    assert isinstance(failed := rig.events["a"][-1], Failed)
    assert failed.code == "engine_failure"
    rig.fails = lambda: False
    rig.ask("b")
    rig.loop.step()
    rig.answer(
        failure=Failed(request_id="", code="engine_failure", message="no step", retryable=True)
    )
    assert isinstance(failed := rig.events["b"][-1], Failed)
    assert (failed.request_id, failed.message) == ("b", "no step")
    rig.ask("c")
    rig.run_all()
    assert rig.kinds("c")[-1] == "Finished"


def test_too_many_and_too_late() -> None:
    rig = Rig(rows=1, waiting=1)
    rig.ask("late", deadline_s=5.0)
    rig.ask("b")
    rig.ask("c")
    assert isinstance(failed := rig.events["c"][-1], Failed)
    assert failed.code == "queue_full"
    rig.clock.now_s += 6.0
    rig.run_all()
    assert isinstance(failed := rig.events["late"][-1], Failed)
    assert failed.code == "deadline_exceeded"
    assert isinstance(rig.events["b"][0], Started)
    assert rig.kinds("b")[-1] == "Finished"
