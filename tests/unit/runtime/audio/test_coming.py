"""Where speech begins and ends in sound that comes, and what of it is held."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.api import Feed, Mark, SoundForm
from nsedge.runtime.audio.coming import FULL_FRAMES, Attend, Came, ComingSound, TurnRule, Why
from nsedge.runtime.audio.pushed import Pushed
from nsedge.runtime.audio.recording import MARGIN
from nsedge.runtime.audio.samples import RATE, Samples
from nsedge.runtime.audio.voice import VOICE_FRAME

LOUD, QUIET = 0.5, 0.0


def by_loudness(samples: Samples) -> NDArray[np.float32]:
    """A voice detector that takes what is loud for speech."""
    return np.abs(samples.reshape(-1, VOICE_FRAME)).max(axis=1) / LOUD


class Rig:
    def __init__(self, *, voice: bool = True, rule: TurnRule | None = None) -> None:
        self.feed = Feed(1 << 24)
        self.sound = ComingSound(
            self.feed,
            Pushed(SoundForm.F32LE, RATE, 1),
            by_loudness if voice else None,
            rule or TurnRule(silence_s=0.5, padding_s=0.25),
        )

    def say(self, seconds: float, level: float = LOUD) -> None:
        self.feed.push(np.full(round(seconds * RATE), level, "<f4").tobytes())

    def next(self, *, seek: int = 0, heard: int = 0, least: int | None = 60) -> Came | None:
        return self.sound.attend(Attend(seek=seek, heard=heard, least=least))


def test_speech_begins_with_its_padding_and_ends_with_silence() -> None:
    rig = Rig()
    assert rig.next() is None
    rig.say(2.0, QUIET)
    assert rig.next() is None
    rig.say(1.0)
    began = rig.next()
    assert began is not None
    assert (began.why, began.speaking) == (Why.BEGAN, True)
    assert began.begin == pytest.approx(175, abs=4)  # a quarter of a second before
    more = rig.next(seek=began.begin, heard=began.begin)
    assert more is not None
    assert more.why is Why.MORE
    rig.say(1.0, QUIET)
    stopped = rig.next(seek=began.begin, heard=more.end)
    assert stopped is not None
    assert (stopped.why, stopped.speaking) == (Why.STOPPED, False)
    assert stopped.voiced == pytest.approx(300, abs=4)
    assert stopped.end == pytest.approx(350, abs=8)
    assert rig.next(seek=stopped.end, heard=stopped.end) is None


def test_a_click_is_no_speech() -> None:
    rig = Rig()
    rig.say(1.0, QUIET)
    rig.say(VOICE_FRAME / RATE)
    rig.say(1.0, QUIET)
    assert rig.next() is None


def test_a_pause_is_heard_before_the_speech_has_ended() -> None:
    rig = Rig()
    rig.say(0.5)
    assert rig.next() is not None
    assert rig.next(least=1000) is None
    rig.say(0.3, QUIET)
    paused = rig.next(least=1000)
    assert paused is not None
    assert (paused.why, paused.voiced) == (Why.MORE, 52)
    assert rig.next(heard=paused.end, least=1000) is None, "nothing was said since"
    assert rig.next(heard=0, least=None) is None, "nobody wants to hear before the end"


def test_marks_come_behind_the_sound_before_them() -> None:
    rig = Rig()
    rig.say(1.0)
    rig.feed.mark(Mark.COMMIT)
    rig.say(1.0)
    rig.feed.mark(Mark.CLEAR)
    rig.feed.mark(Mark.END)
    told = [rig.next(least=None) for _ in range(4)]
    assert [one and one.why for one in told] == [Why.BEGAN, Why.COMMIT, Why.CLEAR, Why.END]
    assert [one and one.speaking for one in told] == [True, True, False, False]
    commit = told[1]
    assert commit is not None
    assert commit.end == pytest.approx(100, abs=4)


def test_without_a_detector_all_is_speech_until_the_client_ends_it() -> None:
    rig = Rig(voice=False)
    rig.say(0.2, QUIET)
    began = rig.next()
    assert began is not None
    assert (began.why, began.begin) == (Why.BEGAN, 0)
    rig.say(5.0, QUIET)
    more = rig.next()
    assert more is not None
    assert more.why is Why.MORE
    assert rig.next(heard=more.end) is None


def test_no_more_is_taken_than_fits_a_window_and_what_was_heard_is_dropped() -> None:
    rig = Rig()
    rig.say(100.0)
    assert rig.next() is not None
    full = rig.next(least=None)
    assert full is not None
    assert full.why is Why.FULL
    assert full.end == pytest.approx(FULL_FRAMES, abs=4)
    assert rig.feed.room_bytes < rig.feed.capacity_bytes - 60 * RATE * 4
    window = rig.sound.window(2000)
    assert window.frames == pytest.approx(full.end - 2000, abs=1)
    assert rig.sound.held_s <= (full.end - 1998) / 100 + MARGIN / RATE
    full = rig.next(seek=2000, least=None)
    assert full is not None
    assert full.why is Why.FULL
    assert full.end == pytest.approx(2000 + FULL_FRAMES, abs=4)


def test_hours_of_silence_hold_nothing() -> None:
    rig = Rig()
    for _ in range(60):
        rig.say(10.0, QUIET)
        assert rig.next() is None
    assert rig.sound.held_s < 1.0
    assert rig.sound.read_s == pytest.approx(600.0)


def test_a_window_is_the_sound_from_its_frame_on() -> None:
    rig = Rig()
    ramp = np.linspace(0.3, 0.9, 3 * RATE, dtype="<f4")
    rig.feed.push(ramp.tobytes())
    assert rig.next() is not None
    rig.next(least=None)
    window = rig.sound.window(100)
    said = window.samples[MARGIN : MARGIN + RATE]
    assert np.array_equal(said, ramp[RATE : 2 * RATE])
    assert np.array_equal(window.samples[:MARGIN], ramp[RATE - MARGIN : RATE])
