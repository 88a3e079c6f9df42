"""What is left out where nobody speaks, and the times of what is kept."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.runtime.audio.recording import Recording
from nsedge.runtime.audio.samples import Samples
from nsedge.runtime.audio.timeline import Timeline
from nsedge.runtime.audio.voice import VOICE_FRAME, spoken

FRAME_S = VOICE_FRAME / 16_000


def by_loudness(samples: Samples) -> NDArray[np.float32]:
    """The samples are the probabilities."""
    return samples.reshape(-1, VOICE_FRAME).mean(axis=1)


def made(*stretches: tuple[float, int]) -> Samples:
    """Each stretch: how likely speech is in so many frames."""
    return np.concatenate(
        [np.full(count * VOICE_FRAME, likely, np.float32) for likely, count in stretches]
    )


def cut(sound: Samples, block: int = 5_000) -> tuple[Samples, Timeline]:
    timeline = Timeline()
    blocks = (sound[at : at + block] for at in range(0, len(sound), block))
    kept = list(spoken(blocks, by_loudness, timeline))
    return np.concatenate([np.zeros(0, np.float32), *kept]), timeline


def frames(samples: Samples) -> float:
    return len(samples) / VOICE_FRAME


def test_silence_is_left_out_but_for_a_margin() -> None:
    kept, timeline = cut(made((0.0, 200), (0.9, 50), (0.0, 200)))
    margin = round(0.4 / FRAME_S)
    assert frames(kept) == 50 + 2 * margin
    assert timeline.time(0.0) == pytest.approx((200 - margin) * FRAME_S)


def test_two_stretches_have_their_own_times() -> None:
    kept, timeline = cut(made((0.9, 50), (0.0, 300), (0.9, 50)))
    margin = round(0.4 / FRAME_S)
    assert frames(kept) == 100 + 2 * margin
    seam, later = (50 + margin) * FRAME_S, (350 - margin) * FRAME_S
    assert timeline.time(seam - 0.01) == pytest.approx(seam - 0.01)
    assert timeline.time(seam) == pytest.approx(later)
    for span, told in (
        ((0.0, 1.0), (0.0, 1.0)),
        ((0.0, seam), (0.0, seam)),
        ((0.0, seam + 0.3), (0.0, seam)),
        ((seam - 0.3, seam + 0.9), (later, later + 0.9)),
        ((seam, seam + 1.0), (later, later + 1.0)),
        ((seam + 0.1, seam + 0.2), (later + 0.1, later + 0.2)),
        ((0.0, seam + 1.0), (0.0, later + 1.0)),
    ):
        assert timeline.span(*span) == pytest.approx(told), span


@pytest.mark.parametrize(
    ("sound", "kept"),
    [
        (made((0.9, 50), (0.0, 60), (0.9, 50)), 160),  # less than 2 s of silence
        (made((0.9, 50), (0.4, 400), (0.9, 50)), 500),  # not unlikely enough to end it
        (made((0.4, 400)), 0),  # not likely enough to begin
        (made((0.0, 100), (0.9, 3), (0.0, 100)), 0),  # a click
        (made((0.0, 400)), 0),
        (made((0.9, 400)), 400),
    ],
)
def test_the_rule(sound: Samples, kept: int) -> None:
    assert frames(cut(sound)[0]) == kept


@pytest.mark.parametrize("block", [100, 512, 5_000, 1_000_000])
def test_it_does_not_matter_how_the_sound_comes(block: int) -> None:
    likely = np.random.default_rng(3).choice([0.0, 0.2, 0.4, 0.9], 3000, p=[0.7, 0.1, 0.1, 0.1])
    likely[500:900] = likely[1500:2200] = 0.0
    sound = np.repeat(likely.astype(np.float32), VOICE_FRAME)[:-100]
    whole, timeline = cut(sound, 1_000_000)
    kept, other = cut(sound, block)
    assert np.array_equal(kept, whole)
    assert other.time(30.0) == timeline.time(30.0)


def test_what_is_kept_is_where_the_timeline_says() -> None:
    rng = np.random.default_rng(5)
    loud = np.repeat(rng.choice([0.0, 0.9], 60, p=[0.6, 0.4]), 40).astype(np.float32)
    sound = np.repeat(loud, VOICE_FRAME) + np.linspace(0.0, 0.01, loud.size * VOICE_FRAME).astype(
        np.float32
    )
    kept, timeline = cut(sound)
    for at in range(0, len(kept), 3_333):
        source = round(timeline.time(at / 16_000) * 16_000)
        assert kept[at] == sound[source]


def test_a_recording_leaves_silence_out() -> None:
    sound = made((0.0, 200), (0.9, 50), (0.0, 200))

    class Source:
        def blocks(self):
            yield sound

    recording = Recording(Source(), voice=by_loudness)
    assert recording.window(0).frames < 300
    assert recording.timeline.time(0.0) > 5.0
    assert Recording(Source()).window(0).frames == len(sound) / 160


@pytest.mark.parametrize(("likely", "kept"), [(0.9, 450), (0.3, 0)])
def test_a_short_sound_is_kept_whole_or_not_at_all(likely: float, kept: int) -> None:
    sound = made((0.0, 200), (likely, 50), (0.0, 200))

    class Source:
        def blocks(self):
            yield from (sound[at : at + 999] for at in range(0, len(sound), 999))

    recording = Recording(Source(), voice=by_loudness, keeps_pauses=True)
    assert recording.window(0).frames == kept * VOICE_FRAME / 160
    assert recording.timeline.time(3.0) == 3.0
