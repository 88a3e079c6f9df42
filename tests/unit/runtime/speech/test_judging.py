"""Whether what was written is to be believed."""

from __future__ import annotations

import pytest

from nsedge.runtime.speech.asks import Decoded
from nsedge.runtime.speech.judging import (
    Judged,
    Thresholds,
    best,
    compression_ratio,
    judged,
)
from tests.unit.runtime.speech.rig import Bytes, said, take


def of(logprob: float, ratio: float = 1.0, no_speech: float = 0.0) -> Judged:
    return Judged(
        tokens=(),
        temperature=0.0,
        avg_logprob=logprob,
        compression_ratio=ratio,
        no_speech_prob=no_speech,
    )


@pytest.mark.parametrize(
    ("logprob", "ratio", "no_speech", "doubtful", "silent"),
    [
        (-0.5, 1.5, 0.1, False, False),
        (-0.5, 2.4, 0.1, False, False),
        (-0.5, 2.41, 0.1, True, False),
        (-1.0, 1.5, 0.1, False, False),
        (-1.01, 1.5, 0.1, True, False),
        (-1.01, 1.5, 0.6, True, False),
        (-1.01, 1.5, 0.61, False, True),
        (-0.5, 1.5, 0.99, False, False),
        (-1.01, 3.0, 0.99, False, True),
    ],
)
def test_the_thresholds_are_whispers(
    logprob: float, ratio: float, no_speech: float, doubtful: bool, silent: bool
) -> None:
    one = of(logprob, ratio, no_speech)
    assert one.is_doubtful(Thresholds()) is doubtful
    assert one.is_silence(Thresholds()) is silent


def test_without_thresholds_all_is_believed() -> None:
    none = Thresholds(compression_ratio=None, avg_logprob=None, no_speech_prob=None)
    one = of(-9.0, 9.0, 1.0)
    assert not one.is_doubtful(none)
    assert not one.is_silence(none)
    assert of(0.0, 1.0, 1.0).is_silence(Thresholds(avg_logprob=None))


def test_the_likeliest_of_several_takes_counts() -> None:
    takes = (take(said(0.0, "worse", 1.0), -0.9), take(said(0.0, "better", 1.0), -0.2))
    found = judged(Decoded(takes=takes, no_speech_prob=0.25), 0.4, Bytes(), 256, Thresholds())
    assert found.tokens == said(0.0, "better", 1.0)
    assert found.avg_logprob == pytest.approx(-0.2)
    assert (found.temperature, found.no_speech_prob) == (0.4, 0.25)


def test_a_take_that_repeats_itself_counts_where_all_do() -> None:
    loop, plain = take(said(0.0, "so " * 60, 9.0), -0.1), take(said(0.0, "well", 9.0), -0.7)
    for takes, wanted in (((loop, plain), plain), ((loop, loop), loop)):
        decoded = Decoded(takes=takes, no_speech_prob=0.0)
        assert judged(decoded, 0.4, Bytes(), 256, Thresholds()).tokens == wanted.tokens


def test_repeated_text_compresses() -> None:
    assert compression_ratio("thank you " * 40) > 2.4
    assert compression_ratio("He hoped there would be stew for dinner") < 1.5
    assert compression_ratio("") == 0.0


def test_of_doubtful_ones_the_likeliest_that_does_not_repeat_itself() -> None:
    loop, plain, poor = of(-0.1, 9.0), of(-1.5), of(-2.5)
    assert best([loop, poor, plain], Thresholds()) is plain
    assert best([loop, of(-0.3, 8.0)], Thresholds()) is loop
