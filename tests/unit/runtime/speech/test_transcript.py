"""The transcript of a recording, driven by a script."""

from __future__ import annotations

import pytest

from nsedge.api import Language, Progress, Segment
from nsedge.errors import InvalidParameter
from nsedge.runtime.speech.asks import Align, Decode, Detect, Hear, Told
from nsedge.runtime.speech.transcript import MAX_PREVIOUS
from tests.unit.runtime.speech.rig import ENGLISH, MANY, Driver, decoded, said, transcript


def texts(driver: Driver) -> list[tuple[float, float, str]]:
    return [(one.start_s, one.end_s, one.text) for one in driver.all(Segment)]


def test_a_short_recording_is_one_window() -> None:
    driver = Driver(5.0, [decoded(0.0, " Hello there.", 2.0)])
    driver.run(transcript(seconds=5.0))
    assert [type(one).__name__ for one in driver.told] == ["Language", "Segment", "Progress"]
    (segment,) = driver.all(Segment)
    assert (segment.seq, segment.start_s, segment.end_s) == (0, 0.0, 2.0)
    assert segment.text == " Hello there."
    assert segment.tokens == said(0.0, " Hello there.", 2.0)
    assert (segment.temperature, segment.avg_logprob) == (0.0, pytest.approx(-0.1))
    assert driver.all(Language) == [Language(request_id="r", language="en", probability=1.0)]
    assert driver.all(Progress) == [Progress(request_id="r", done=5.0, total=5.0, unit="s")]


def test_a_window_begins_where_the_one_before_was_heard_to() -> None:
    driver = Driver(
        40.0,
        [decoded(0.0, " a", 20.0, 20.0, " b"), decoded(0.0, " b", 19.0)],
    )
    driver.run(transcript(condition_on_previous=False))
    assert [one.start for one in driver.all(Hear)] == [0, 2000, 4000]
    assert texts(driver) == [(0.0, 20.0, " a"), (20.0, 39.0, " b")]
    assert [one.seek_s for one in driver.all(Segment)] == [0.0, 20.0]


def test_what_was_said_prompts_the_next_window() -> None:
    first, last = decoded(0.0, " a", 30.0), decoded(0.0, " b", 10.0)
    driver = Driver(40.0, [first, last])
    driver.run(transcript())
    prompts = [one.prompt for one in driver.all(Decode)]
    assert prompts == [(ENGLISH.start,), (258, *said(0.0, " a", 30.0), ENGLISH.start)]


def test_a_prompt_comes_before_what_was_said_and_is_bounded() -> None:
    driver = Driver(40.0, [decoded(0.0, " a", 30.0), decoded(0.0, " b", 10.0)])
    driver.run(transcript(prompt="x" * 300))
    first, second = (one.prompt for one in driver.all(Decode))
    assert first == (258, *b"x" * MAX_PREVIOUS, ENGLISH.start)
    assert second[-5:] == (*said(0.0, " a", 30.0), ENGLISH.start)
    assert len(second) == MAX_PREVIOUS + 2


@pytest.mark.parametrize(("temperature", "prompted"), [(0.4, True), (0.6, False)])
def test_what_was_drawn_at_a_high_temperature_prompts_nothing(
    temperature: float, prompted: bool
) -> None:
    script = [decoded(0.0, " a", 30.0), decoded(0.0, " b", 10.0)]
    driver = Driver(40.0, script)
    driver.run(transcript(temperatures=(temperature,)))
    assert (driver.all(Decode)[1].prompt[0] == ENGLISH.start_of_previous) is prompted


def test_a_window_that_says_the_same_as_the_one_before_prompts_nothing() -> None:
    script = [decoded(0.0, " a", 30.0), decoded(0.0, " a", 30.0), decoded(0.0, " b", 10.0)]
    driver = Driver(70.0, script)
    driver.run(transcript())
    assert driver.all(Decode)[1].prompt[0] == ENGLISH.start_of_previous
    assert driver.all(Decode)[2].prompt == (ENGLISH.start,)


def test_beams_find_what_is_written_at_temperature_0_alone() -> None:
    doubtful = decoded(0.0, " a", 2.0, logprob=-2.0)
    driver = Driver(5.0, [doubtful, decoded(0.0, " b", 2.0)])
    driver.run(transcript(beams=5, patience=2.0, temperatures=(0.0, 0.4)))
    assert [(one.beams, one.patience, one.samples) for one in driver.all(Decode)] == [
        (5, 2.0, 1),
        (1, 2.0, 5),
    ]


def test_a_doubtful_window_is_tried_at_higher_temperatures() -> None:
    loop = decoded(0.0, " thank you" * 60, 9.0)
    script = [loop, decoded(0.0, " hm", 9.0, logprob=-2.0), decoded(0.0, " yes", 9.0)]
    driver = Driver(10.0, script)
    driver.run(transcript())
    assert [(one.temperature, one.samples) for one in driver.all(Decode)] == [
        (0.0, 1),
        (0.2, 5),
        (0.4, 5),
    ]
    assert texts(driver) == [(0.0, 9.0, " yes")]
    assert driver.all(Segment)[0].temperature == 0.4


def test_where_all_are_doubtful_the_likeliest_is_taken() -> None:
    script = [decoded(0.0, " a", 9.0, logprob=-3.0), decoded(0.0, " b", 9.0, logprob=-2.0)]
    script.append(decoded(0.0, " c", 9.0, logprob=-4.0))
    driver = Driver(10.0, script)
    driver.run(transcript(temperatures=(0.0, 0.5, 1.0)))
    assert texts(driver) == [(0.0, 9.0, " b")]


def test_a_loop_is_tried_anew_without_what_was_said_before() -> None:
    loop = decoded(0.0, " thank you" * 60, 10.0)
    script = [decoded(0.0, " a", 30.0), loop, decoded(0.0, " b", 10.0)]
    driver = Driver(40.0, script)
    driver.run(transcript())
    prompted = [one.prompt[0] == ENGLISH.start_of_previous for one in driver.all(Decode)]
    assert prompted == [False, True, False]
    assert texts(driver) == [(0.0, 30.0, " a"), (30.0, 40.0, " b")]


def test_of_a_loop_that_nothing_ends_each_segment_is_told_once() -> None:
    again = [part for at in range(9) for part in (float(at), " again and again", at + 1.0)]
    loop = decoded(*again)
    script = [loop, loop, decoded(0.0, " b", 10.0)]
    driver = Driver(40.0, script)
    driver.run(transcript(temperatures=(0.0, 0.2)))
    assert texts(driver)[0] == (0.0, 1.0, " again and again")
    assert len(texts(driver)) == 2
    assert driver.all(Segment)[0].temperature == 0.0
    assert driver.all(Decode)[2].prompt == (ENGLISH.start,)


def test_nothing_is_said_where_nobody_speaks() -> None:
    silent = decoded(0.0, " Thanks for watching!", 5.0, logprob=-1.5, no_speech=0.9)
    driver = Driver(60.0, [silent, silent])
    driver.run(transcript(seconds=60.0))
    assert texts(driver) == []
    assert [one.done for one in driver.all(Progress)] == [30.0, 60.0]
    assert len(driver.all(Decode)) == 2  # silence is no doubt


def test_what_has_nothing_to_hear_is_passed_over() -> None:
    driver = Driver(70.0, [decoded(0.0, " Ja.", 9.0)], detected={"de": 1.0}, silent_s=60.0)
    driver.run(transcript(MANY))
    assert [one.start for one in driver.all(Hear)] == [0, 3000, 6000, 7000]
    assert [type(one).__name__ for one in driver.told] == [
        "Progress",
        "Progress",
        "Language",
        "Segment",
        "Progress",
    ]
    assert texts(driver) == [(60.0, 69.0, " Ja.")]


def test_the_last_instant_is_no_window_of_its_own() -> None:
    driver = Driver(30.05, [decoded(0.0, " a", 29.0)])
    driver.run(transcript())
    assert [one.start for one in driver.all(Hear)] == [0, 3000]


def test_an_instant_alone_is_a_window() -> None:
    driver = Driver(0.01, [decoded(0.0)])
    driver.run(transcript())
    assert texts(driver) == []


def test_no_sound_at_all_is_no_transcript() -> None:
    driver = Driver(0.0, [])
    driver.run(transcript(MANY))
    assert driver.told == []


def test_the_language_is_detected_where_it_is_not_told() -> None:
    driver = Driver(5.0, [decoded(0.0, " Ja.", 1.0)], detected={"en": 0.2, "de": 0.7, "zh": 0.1})
    driver.run(transcript(MANY))
    assert driver.all(Language) == [Language(request_id="r", language="de", probability=0.7)]
    assert driver.all(Decode)[0].prompt == (257, 264, 261)


@pytest.mark.parametrize(("translate", "task"), [(False, 261), (True, 262)])
def test_language_and_task_are_told_to_the_model(translate: bool, task: int) -> None:
    driver = Driver(5.0, [decoded(0.0, " Ja.", 1.0)])
    driver.run(transcript(MANY, language="de", translate=translate))
    assert driver.all(Detect) == []
    assert driver.all(Decode)[0].prompt == (257, 264, task)


@pytest.mark.parametrize(
    ("tokens", "task", "param"),
    [
        (ENGLISH, {"translate": True}, "translate"),
        (ENGLISH, {"language": "de"}, "language"),
        (MANY, {"language": "fr"}, "language"),
    ],
)
def test_what_the_model_does_not_do_is_refused(tokens, task, param) -> None:
    with pytest.raises(InvalidParameter) as refused:
        transcript(tokens, **task)
    assert refused.value.param == param


def test_words_have_times_and_lead_to_the_next_window() -> None:
    driver = Driver(40.0, [decoded(0.0, " ab cd", 28.0, 28.0, " e"), decoded(0.0, " e", 9.0)])
    driver.run(transcript(word_timestamps=True))
    first, second = driver.all(Segment)
    assert [one.text for one in first.words] == [" ab", " cd"]
    assert (first.start_s, first.end_s) == (first.words[0].start_s, first.words[-1].end_s)
    assert driver.all(Hear)[1].start == round(first.words[-1].end_s * 100)
    assert second.words[0].start_s >= first.words[-1].end_s
    assert [one.prompt for one in driver.all(Align)] == [(ENGLISH.start,)] * 2


def test_an_answer_of_another_kind_is_an_error() -> None:
    steps = transcript().steps()
    next(steps)
    with pytest.raises(TypeError, match="Hear was answered with Told"):
        steps.send(Told())
