"""The transcript of sound that comes: what is settled, what is told, and when it is final."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nsedge.api import Activity, Committed, Event, Language, Listen, Segment
from nsedge.runtime.audio.coming import Attend, Came, Why
from nsedge.runtime.speech.asks import (
    Align,
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
from nsedge.runtime.speech.live import FIRST_FRAMES, LiveTranscript
from nsedge.runtime.speech.vocabulary import SpeechTokens
from tests.unit.runtime.speech.rig import ENGLISH, MANY, Bytes, decoded, said, straight


def came(why: Why, end: int, *, begin: int = 0, voiced: int | None = None) -> Came:
    return Came(
        why=why,
        begin=begin,
        voiced=end if voiced is None else voiced,
        end=end,
        speaking=why is not Why.STOPPED,
    )


@dataclass
class Live:
    """Drives a transcript by what comes, and by what is written of each hearing."""

    comes: Iterable[Came]
    writes: Iterable[Decoded] = ()
    tokens: SpeechTokens = ENGLISH
    silent: bool = False
    asked: list[Ask] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)

    def run(self, **task: object) -> Live:
        transcript = LiveTranscript(
            request_id="r",
            task=Listen(**task),  # type: ignore[arg-type]
            tokens=self.tokens,
            codec=Bytes(),
        )
        coming, writing = iter(self.comes), iter(self.writes)
        end, steps = 0, transcript.steps()
        answer: Answer | None = None
        while True:
            try:
                wanted = next(steps) if answer is None else steps.send(answer)
            except StopIteration:
                assert next(writing, None) is None, "not all was written"
                return self
            self.asked.append(wanted)
            match wanted:
                case Attend():
                    answer = next(coming)
                    end = answer.end
                case Hear(start=start):
                    answer = Heard(frames=end - start, is_silent=self.silent)
                case Decode():
                    answer = next(writing)
                case Detect():
                    answer = Detected(probabilities={"en": 0.25, "de": 0.75})
                case Align(text=text, frames=frames):
                    answer = straight(len(text), frames)
                case Tell(event=event):
                    self.told.append(event)
                    answer = Told()

    def all(self, kind: type) -> list:
        return [one for one in (*self.asked, *self.told) if isinstance(one, kind)]

    def said(self) -> list[tuple[int, str, bool, int]]:
        return [(one.seq, one.text, one.final, one.stable) for one in self.all(Segment)]


BEGAN = came(Why.BEGAN, 30)
END = Came(why=Why.END, begin=0, voiced=0, end=400, speaking=False)


def test_what_two_hearings_agree_in_is_stable_and_the_end_of_speech_makes_all_final() -> None:
    live = Live(
        [BEGAN, came(Why.MORE, 100), came(Why.MORE, 200), came(Why.STOPPED, 260, voiced=200), END],
        [
            decoded(0.0, " He was a"),
            decoded(0.0, " He was not amiable.", 2.0),
        ],
    ).run()
    assert live.said() == [
        (0, " He was a", False, 0),
        (0, " He was not amiable.", False, len(" He was")),
        (0, " He was not amiable.", True, len(" He was not amiable.")),
    ]
    assert live.all(Activity) == [
        Activity(request_id="r", speaking=True, at_s=0.0),
        Activity(request_id="r", speaking=False, at_s=2.6),
    ]
    assert [one.at_s for one in live.all(Committed)] == [2.6, 4.0]
    final = live.all(Segment)[-1]
    assert (final.start_s, final.end_s) == (0.0, 2.0)
    assert len(live.all(Hear)) == 2, "what was heard already is not heard again"


def test_what_is_settled_is_written_on_from() -> None:
    live = Live(
        [
            BEGAN,
            came(Why.MORE, 100),
            came(Why.MORE, 200),
            came(Why.MORE, 300),
            came(Why.STOPPED, 360, voiced=300),
            END,
        ],
        [
            decoded(0.0, " one two"),
            decoded(0.0, " one two three"),
            decoded(" three four", 3.0),
        ],
    ).run()
    prompts = [one.prompt for one in live.all(Decode)]
    assert prompts[1] == (257,)
    assert prompts[2] == (257, *said(0.0, " one two"))
    assert live.said()[-2:] == [
        (0, " one two three four", False, len(" one two three")),
        (0, " one two three four", True, len(" one two three four")),
    ]
    rules = live.all(Decode)[2].rules
    assert rules._begun == said(0.0, " one two")


def test_what_was_said_since_the_last_hearing_is_heard_before_it_is_final() -> None:
    live = Live(
        [BEGAN, came(Why.MORE, 100), came(Why.STOPPED, 300, voiced=250), END],
        [decoded(0.0, " one"), decoded(0.0, " one two", 2.5)],
    ).run()
    assert [one.start for one in live.all(Hear)] == [0, 0]
    assert live.said()[-1] == (0, " one two", True, len(" one two"))


def test_a_doubtful_hearing_is_tried_anew_at_the_end_only() -> None:
    doubtful = decoded(0.0, " hm hm", logprob=-3.0)
    live = Live(
        [BEGAN, came(Why.MORE, 100), came(Why.STOPPED, 160, voiced=100), END],
        [doubtful, doubtful, decoded(0.0, " one", 1.0)],
    ).run()
    assert [one.temperature for one in live.all(Decode)] == [0.0, 0.0, 0.2]
    assert live.said()[-1][1:3] == (" one", True)


def test_a_text_that_repeats_itself_changes_nothing_that_was_told() -> None:
    loop = decoded(0.0, " la" * 60)
    live = Live(
        [BEGAN, came(Why.MORE, 100), came(Why.MORE, 200), came(Why.MORE, 300), END],
        [decoded(0.0, " one two"), loop, decoded(0.0, " one two")],
    ).run()
    assert live.said() == [(0, " one two", False, 0)], "the text did not change"


def test_silence_tells_nothing_but_that_it_is_over() -> None:
    live = Live([came(Why.COMMIT, 0), came(Why.CLEAR, 100), END]).run()
    assert live.all(Segment) == []
    assert [one.at_s for one in live.all(Committed)] == [0.0, 4.0]
    quiet = decoded(0.0, " you", logprob=-2.0, no_speech=0.9)
    live = Live([BEGAN, came(Why.STOPPED, 100), END], [quiet]).run()
    assert live.all(Segment) == []
    live = Live([BEGAN, came(Why.STOPPED, 100), END], silent=True).run()
    assert live.all(Segment) == []


def test_a_commit_makes_final_what_was_said_and_the_next_window_begins_behind_it() -> None:
    live = Live(
        [BEGAN, came(Why.COMMIT, 150), came(Why.MORE, 250), came(Why.END, 300)],
        [decoded(0.0, " one", 1.5), decoded(0.0, " two"), decoded(0.0, " two three", 1.5)],
    ).run()
    assert [one.start for one in live.all(Hear)] == [0, 150, 150]
    assert live.said() == [
        (0, " one", True, 4),
        (1, " two", False, 0),
        (1, " two three", True, 10),
    ]
    final = live.all(Segment)[-1]
    assert (final.start_s, final.end_s) == (1.5, 3.0)
    context = live.all(Decode)[1].prompt
    assert context[: context.index(257)] == (258, *said(" one"))


def test_what_is_cleared_is_forgotten() -> None:
    live = Live(
        [BEGAN, came(Why.MORE, 100), came(Why.CLEAR, 150), came(Why.BEGAN, 200, begin=180), END],
        [decoded(0.0, " one")],
    ).run()
    assert live.said() == [(0, " one", False, 0)]
    assert live.all(Attend)[-1].seek == 180


def test_segments_at_the_beginning_of_a_long_window_become_final() -> None:
    first = (0.0, " One.", 6.0, 6.0, " Two", 11.0)
    second = (0.0, " One.", 6.0, 6.0, " Two three")
    live = Live(
        [BEGAN, came(Why.MORE, 1100), came(Why.MORE, 1300), came(Why.STOPPED, 1400), END],
        [decoded(*first), decoded(*second), decoded(" three.", 7.5)],
    ).run()
    assert live.said() == [
        (0, " One. Two", False, 0),
        (0, " One.", True, 5),
        (1, " Two three", False, 4),
        (1, " Two three.", True, 11),
    ]
    finals = [one for one in live.all(Segment) if one.final]
    assert [(one.start_s, one.end_s) for one in finals] == [(0.0, 6.0), (6.0, 13.5)]
    assert [one.start for one in live.all(Hear)] == [0, 0, 600]
    assert live.all(Decode)[2].prompt[-len(said(0.0, " Two")) :] == said(0.0, " Two")


def test_a_full_window_without_a_segment_becomes_final_whole() -> None:
    live = Live(
        [BEGAN, came(Why.FULL, 2800), END],
        [decoded(0.0, " on and on and")],
    ).run()
    assert live.said()[-1] == (0, " on and on and", True, 14)
    assert live.all(Attend)[-1].seek == 2800


def test_partials_are_told_where_they_are_wanted() -> None:
    live = Live([BEGAN, came(Why.STOPPED, 160), END], [decoded(0.0, " one", 1.0)]).run(
        partials=False
    )
    assert [one.least for one in live.all(Attend)] == [None] * 3
    assert live.said() == [(0, " one", True, 4)]
    live = Live([came(Why.BEGAN, 10), END]).run(step_s=0.5)
    assert live.all(Attend)[0].least == FIRST_FRAMES


def test_words_have_the_times_of_the_whole_sound() -> None:
    live = Live(
        [came(Why.BEGAN, 530, begin=500), came(Why.STOPPED, 700), END],
        [decoded(0.0, " one two", 2.0)],
    ).run(word_timestamps=True)
    (segment,) = live.all(Segment)
    assert [one.text for one in segment.words] == [" one", " two"]
    times = [time for one in segment.words for time in (one.start_s, one.end_s)]
    assert times == sorted(times)
    assert 5.0 <= times[0] < times[-1] <= 7.0


def test_the_language_is_detected_until_something_is_settled() -> None:
    live = Live(
        [BEGAN, came(Why.MORE, 100), came(Why.MORE, 200), came(Why.MORE, 300), END],
        [decoded(0.0, " eins"), decoded(0.0, " eins zwei"), decoded(" zwei")],
        tokens=MANY,
    ).run()
    assert live.all(Language) == [Language(request_id="r", language="de", probability=0.75)]
    assert len(live.all(Detect)) == 2
    assert live.all(Decode)[2].prompt == (257, 264, 261, *said(0.0, " eins"))
    told = Live([BEGAN, came(Why.MORE, 100), END], [decoded(0.0, " one")], tokens=MANY).run(
        language="en"
    )
    assert told.all(Detect) == []
    assert told.all(Language)[0].probability == 1.0
