"""Requests that hear sound while it comes, in the loop: when they go on, end, and whose row they
take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from nsedge.api import Failed, Listen, Request
from nsedge.errors import InvalidMedia
from nsedge.runtime.audio.coming import Attend, Came, Why
from nsedge.runtime.audio.recording import Window
from nsedge.runtime.hosting.speech_work import MOST_REST_FRAMES, SpeechWork
from nsedge.runtime.speech.asks import Decode, Decoded, Hear, Heard, Steps, ask
from nsedge.runtime.speech.rules import Rules
from tests.unit.runtime.hosting.test_speech_loop import TOKENS, Rig


@dataclass
class FakeSound:
    """Sound of which the test says what comes."""

    comes: deque[Came | Exception] = field(default_factory=deque)
    asked: list[Attend] = field(default_factory=list)
    read_s: float = 0.0

    def attend(self, asked: Attend) -> Came | None:
        self.asked.append(asked)
        if not self.comes:
            return None
        came = self.comes.popleft()
        if isinstance(came, Exception):
            raise came
        return came

    def window(self, start: int) -> Window:
        return Window(samples=np.ones(160, np.float32), frames=100, is_last=False, is_silent=False)


class Ear:
    """Hears and writes whatever comes, until the end."""

    written = 0

    def steps(self) -> Steps[None]:
        while True:
            came = yield from ask(Attend(seek=0, heard=0, least=60), Came)
            if came.why is Why.END:
                return
            yield from ask(Hear(start=0), Heard)
            wanted = Decode(
                prompt=(11,), temperature=0.0, samples=1, rules=Rules(TOKENS), max_tokens=5
            )
            yield from ask(wanted, Decoded)
            self.written += 1


def came(why: Why = Why.MORE) -> Came:
    return Came(why=why, begin=0, voiced=100, end=100, speaking=True)


@dataclass
class Live:
    """A request that hears, in a rig."""

    rig: Rig
    name: str = "live"
    idle_s: float = 10.0
    deadline_s: float | None = None
    sound: FakeSound = field(default_factory=FakeSound)
    work: SpeechWork = field(init=False)

    def __post_init__(self) -> None:
        task = Listen(idle_s=self.idle_s)
        request = Request(request_id=self.name, model="m", task=task, deadline_s=self.deadline_s)
        self.work = SpeechWork(
            request=request,
            transcript=Ear(),
            recording=self.sound,
            audio=self.sound,
            coming=self.sound,
            submitted_s=self.rig.clock(),
        )
        self.rig.loop.submit(self.work, self.rig.events.setdefault(self.name, []).append)
        self.rig.loop.drain_inbox(wait=False)

    def hears(self, *what: Came | Exception) -> None:
        self.sound.comes.extend(what)
        self.rig.loop.sound_came(self.work)
        self.rig.loop.drain_inbox(wait=False)

    def code(self) -> str:
        end = self.rig.events[self.name][-1]
        assert isinstance(end, Failed)
        return end.code


def test_it_waits_for_sound_goes_on_with_it_and_ends() -> None:
    rig = Rig()
    live = Live(rig)
    assert rig.kinds("live") == ["Started"]
    rig.loop.step()
    assert rig.rows == []
    live.hears(came())
    rig.loop.step()
    rig.answer()
    assert live.work.transcript.written == 1
    live.hears(came(), came(Why.END))
    rig.loop.step()
    rig.answer()
    assert rig.kinds("live") == ["Started", "Finished"]
    assert rig.rows == [1, 1]


def test_it_holds_no_row_while_it_waits() -> None:
    rig = Rig(rows=1)
    lives = [Live(rig, name) for name in ("a", "b")]
    for live in lives:
        live.hears(came())
        rig.loop.step()
        assert live.work.row == 0
        rig.answer()
        assert live.work.row is None


def test_it_takes_the_row_of_a_file_that_waits_for_its_next_window() -> None:
    rig = Rig(rows=1)
    rig.ask("file", windows=2)
    rig.loop.step()
    live = Live(rig)
    live.hears(came())
    rig.loop.step()
    assert live.work.row is None, "something is written of what the file has heard"
    rig.answer()
    rig.answer()
    assert rig.works["file"].row == 0
    rig.loop.step()
    assert (live.work.row, rig.works["file"].row) == (0, None)
    rig.answer()
    live.hears(came(Why.END))
    rig.run_all()
    assert rig.kinds("file")[-1] == rig.kinds("live")[-1] == "Finished"


def test_more_must_come_the_longer_a_hearing_takes() -> None:
    rig = Rig()
    live = Live(rig)
    assert live.sound.asked[-1].least == 60
    for took_s, least in ((0.1, 60), (0.5, 150), (60.0, MOST_REST_FRAMES)):
        live.hears(came())
        rig.loop.step()
        rig.clock.advance(took_s)
        rig.answer()
        assert live.sound.asked[-1].least == least


def test_no_sound_for_too_long_ends_it_and_so_does_its_deadline() -> None:
    rig = Rig()
    idle, late, busy = Live(rig, "idle"), Live(rig, "late", deadline_s=30.0), Live(rig, "busy")
    busy.hears(came())
    rig.loop.step()
    rig.clock.advance(9.0)
    late.hears()
    rig.clock.advance(2.0)
    rig.loop.step()
    assert idle.code() == "upload_stalled"
    assert rig.kinds("busy") == ["Started"], "it is not the client that keeps it waiting"
    rig.clock.advance(5.0)
    late.hears()
    rig.clock.advance(9.0)
    late.hears()
    rig.clock.advance(9.0)
    rig.loop.step()
    assert late.code() == "deadline_exceeded"


def test_sound_that_is_none_ends_it_and_what_comes_then_is_nobodys() -> None:
    rig = Rig()
    live = Live(rig)
    live.hears(InvalidMedia("no numbers"))
    assert live.code() == "invalid_media"
    live.hears(came())
    rig.loop.step()
    assert rig.kinds("live") == ["Started", "Failed"]
    gone = Live(rig, "gone")
    rig.loop.cancel(gone.work)
    rig.loop.drain_inbox(wait=False)
    gone.hears(came())
    rig.loop.step()
    assert rig.kinds("gone") == ["Started", "Finished"]


def test_sound_that_breaks_what_decodes_it_ends_its_request_alone() -> None:
    rig = Rig()
    broken, other = Live(rig, "broken"), Live(rig, "other")
    broken.hears(RuntimeError("the resampler is broken"))
    assert rig.kinds("broken") == ["Started", "Failed"]
    assert broken.code() == "engine_failure"
    other.hears(came(Why.END))
    assert rig.kinds("other") == ["Started", "Finished"]
