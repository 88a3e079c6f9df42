"""The transcript of sound that is still coming. Pure, as `transcript` is: it asks for what is to be
done, and whoever drives it answers.

While somebody speaks, what came since the last final segment is heard anew whenever enough of it is
new; what two hearings agree in is settled (`agreeing`). Segments that a pair of timestamps ends are
final once the window is long, all others with the end of speech, or where the client asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nsedge.api import Activity, Committed, Event, Language, Listen, Segment, Word
from nsedge.runtime.audio.coming import Attend, Came, Why
from nsedge.runtime.audio.samples import FRAMES_PER_S
from nsedge.runtime.speech import agreeing, judging, words
from nsedge.runtime.speech.agreeing import Part, Said
from nsedge.runtime.speech.asks import (
    Align,
    Aligned,
    Decode,
    Decoded,
    Detect,
    Detected,
    Hear,
    Heard,
    Steps,
    Tell,
    Told,
    ask,
)
from nsedge.runtime.speech.judging import Judged, Thresholds
from nsedge.runtime.speech.rules import Rules
from nsedge.runtime.speech.transcript import ENGLISH, LEAST_FRAMES, MAX_WRITTEN
from nsedge.runtime.speech.vocabulary import CONTEXT, FRAMES_A_TOKEN, Codec, SpeechTokens

FIRST_FRAMES = 80
"""What must have come of speech before it is heard at all: of less a model makes words up."""
LONG_FRAMES = 12 * FRAMES_PER_S
"""From this length on, segments at the window's beginning become final."""
LONGER_FRAMES = 20 * FRAMES_PER_S
"""From this length on, those that two hearings do not agree in, too."""
MAX_CONTEXT = 100
"""Tokens of what was said before that a window is prompted with."""
TOKENS_A_S = 20
"""More are not said; a text that has more has lost its way."""
LEAST_TOKENS = 24
TRIED = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Temperatures of the last hearing of a window, one after the other while it is doubtful."""


class LiveTranscript:
    """One transcript; `steps` makes it, once."""

    def __init__(
        self, *, request_id: str, task: Listen, tokens: SpeechTokens, codec: Codec
    ) -> None:
        """Raises InvalidParameter: the model does not do what the task asks for."""
        self._request_id = request_id
        self._task = task
        self._tokens = tokens
        self._codec = codec
        self._limits = Thresholds()
        self._opening: tuple[int, ...] = ()
        self._language: str | None = None
        self._told_language: str | None = None
        if task.language is not None or not tokens.languages:
            self._opening = tokens.opening(task.language, translate=task.translate)
            self._language = task.language or ENGLISH
        elif task.translate:
            tokens.opening(next(iter(tokens.languages)), translate=True)
        self._detects = not self._opening
        prompt = task.prompt.strip()
        self._context: list[int] = codec.encode(f" {prompt}") if prompt else []
        self._count = 0
        self._begin_window(0)
        self._heard = 0
        self._last = Judged(
            tokens=(), temperature=0.0, avg_logprob=0.0, compression_ratio=0.0, no_speech_prob=0.0
        )
        self.written = 0
        """Tokens so far, of all tries."""

    def _begin_window(self, seek: int) -> None:
        self._seek = self._heard = seek
        self._settled: tuple[Said, ...] = ()
        """What will not change."""
        self._open: tuple[Said, ...] = ()
        """What was written behind it last."""
        self._closing: int | None = None
        self._is_sure = False
        """Whether what was written last is to be believed."""
        self._shown = ""
        self._times: list[words.Timed] = []
        """The words with their times, in seconds of the sound, where they were asked for."""

    def steps(self) -> Steps[None]:
        """All that is asked on the way; the events of the transcript among it."""
        step = max(round(self._task.step_s * FRAMES_PER_S), 1)
        while True:
            first = max(step, FIRST_FRAMES) if self._heard == self._seek else step
            least = first if self._task.partials else None
            came = yield from ask(Attend(seek=self._seek, heard=self._heard, least=least), Came)
            match came.why:
                case Why.BEGAN:
                    self._begin_window(came.begin)
                    yield from self._tell_activity(speaking=True, frame=came.begin)
                case Why.MORE:
                    yield from self._hear_more()
                case Why.FULL:
                    seek = self._seek
                    yield from self._hear_more()
                    if self._seek == seek:
                        yield from self._finish_window(came)
                case Why.STOPPED:
                    yield from self._stop(came)
                case Why.COMMIT | Why.END:
                    yield from self._commit(came)
                    if came.why is Why.END:
                        return
                case Why.CLEAR:
                    self._begin_window(came.end)

    def _stop(self, came: Came) -> Steps[None]:
        yield from self._tell_activity(speaking=False, frame=came.end)
        yield from self._finish_window(came)
        yield from self._tell_committed(came)

    def _commit(self, came: Came) -> Steps[None]:
        if came.speaking:
            yield from self._finish_window(came)
        yield from self._tell_committed(came)

    def _hear_more(self) -> Steps[None]:
        """Hear what came, settle what two hearings agree in, and tell how it stands."""
        heard, judged = yield from self._hear((0.0,))
        if judged is None or judged.repeats(self._limits):
            self._is_sure = False
            return
        found = self._read(judged)
        count = agreeing.agreed(self._open, found.words)
        self._settled += found.words[:count]
        self._open = found.words[count:]
        self._closing = found.closing
        self._is_sure = not self._is_doubtful(judged)
        yield from self._time_words(heard)
        yield from self._shorten(heard)
        yield from self._tell_partial(heard)

    def _finish_window(self, came: Came) -> Steps[None]:
        """Tell all that was said up to now as final, and begin anew behind it."""
        heard = self._heard - self._seek
        if came.voiced > self._heard or not self._is_sure:
            heard, judged = yield from self._hear(TRIED)
            if judged is None or judged.repeats(self._limits):
                self._open, self._closing = (), None
            else:
                found = self._read(judged)
                self._open, self._closing = found.words, found.closing
                yield from self._time_words(heard)
            if judged is not None and judged.temperature > judging.RESET_ABOVE:
                self._context.clear()
        self._settled, self._open = self._settled + self._open, ()
        first = self._tokens.first_timestamp
        yield from self._tell_final(agreeing.parts(self._settled, self._closing, heard, first))
        self._begin_window(max(came.end, self._seek))

    def _is_doubtful(self, judged: Judged) -> bool:
        """Whether it is to be tried anew; that nothing follows what is settled is not."""
        nothing_more = bool(self._settled) and not judged.tokens
        return not nothing_more and judged.is_doubtful(self._limits)

    def _read(self, judged: Judged) -> agreeing.Hypothesis:
        """What was written, as words; none where nobody spoke."""
        if judged.is_silence(self._limits):
            return agreeing.Hypothesis(words=())
        return agreeing.hypothesis(judged.tokens, self._tokens, self._codec, self._language)

    def _hear(self, temperatures: Sequence[float]) -> Steps[tuple[int, Judged | None]]:
        """The frames of the window that were heard, and what was written of them behind what is
        settled; None where there was nothing to hear."""
        heard = yield from ask(Hear(start=self._seek), Heard)
        self._heard = self._seek + heard.frames
        if heard.is_silent or heard.frames < LEAST_FRAMES:
            return heard.frames, None
        yield from self._find_language()
        judged: Judged | None = None
        tried: list[Judged] = []
        for temperature in temperatures:
            judged = yield from self._write(temperature, heard.frames)
            if not self._is_doubtful(judged):
                break
            tried.append(judged)
        else:
            judged = judging.best(tried, self._limits)
        self._last = judged
        return heard.frames, judged

    def _write(self, temperature: float, frames: int) -> Steps[Judged]:
        begun = agreeing.ids_of(self._settled)
        context = self._context[-MAX_CONTEXT:]
        before = (self._tokens.start_of_previous, *context) if context else ()
        prompt = (*before, *self._opening, *begun)
        most = LEAST_TOKENS + TOKENS_A_S * frames // FRAMES_PER_S - len(begun)
        wanted = Decode(
            prompt=prompt,
            temperature=temperature,
            samples=1,
            rules=Rules(self._tokens, begun=begun),
            max_tokens=min(max(most, LEAST_TOKENS), MAX_WRITTEN, CONTEXT - len(prompt)),
        )
        decoded = yield from ask(wanted, Decoded)
        self.written += sum(len(take.tokens) for take in decoded.takes)
        return judging.judged(decoded, temperature, self._codec, self._tokens.end, self._limits)

    def _find_language(self) -> Steps[None]:
        """Detect it where it was not told, anew until something is settled of it; and tell it."""
        probability = 1.0
        if self._detects and not (self._settled or self._count):
            detected = yield from ask(Detect(), Detected)
            likely = detected.probabilities
            self._language = max(likely, key=likely.__getitem__)
            probability = likely[self._language]
            self._opening = self._tokens.opening(self._language, translate=self._task.translate)
        if self._language != self._told_language:
            self._told_language = self._language
            yield from _tell(
                Language(
                    request_id=self._request_id,
                    language=self._language or ENGLISH,
                    probability=probability,
                )
            )

    def _time_words(self, heard: int) -> Steps[None]:
        """Find when each word of the window was said, where that was asked for."""
        ids = agreeing.text_ids((*self._settled, *self._open))
        self._times = []
        if not (self._task.word_timestamps and ids):
            return
        aligned = yield from ask(Align(prompt=self._opening, text=ids, frames=heard), Aligned)
        begin_s = self._seek / FRAMES_PER_S
        self._times = [
            replace(one, start_s=begin_s + one.start_s, end_s=begin_s + one.end_s)
            for one in words.timed(ids, aligned, self._codec, self._language)
        ]

    def _shorten(self, heard: int) -> Steps[None]:
        """Where the window is long, tell its first segments as final, and begin it behind them."""
        if heard < LONG_FRAMES:
            return
        said = self._settled if heard < LONGER_FRAMES else self._settled + self._open
        begins = [at for at, one in enumerate(said) if at and one.begins_segment]
        if not begins:
            return
        cut = begins[-1]
        first, shift = self._tokens.first_timestamp, said[cut].times[-1]
        by, frames = shift - first, (shift - first) * FRAMES_A_TOKEN
        if not 0 < frames < heard:
            return
        yield from self._tell_final(agreeing.parts(said[:cut], said[cut].times[0], heard, first))
        settled, rest = self._settled[cut:], (*self._settled, *self._open)[cut:]
        rest = agreeing.moved(rest, by, self._tokens)
        self._settled, self._open = rest[: len(settled)], rest[len(settled) :]
        self._closing = None if self._closing is None else max(first, self._closing - by)
        self._seek += frames

    def _tell_partial(self, heard: int) -> Steps[None]:
        stable = agreeing.text_of(self._settled)
        text = stable + agreeing.text_of(self._open)
        if not self._task.partials or not text.strip() or text == self._shown:
            return
        self._shown = text
        whole = Part(words=(*self._settled, *self._open), start=0, end=heard)
        yield from _tell(self._segment(whole, stable=len(stable), final=False))

    def _tell_final(self, found: Sequence[Part]) -> Steps[None]:
        """Tell segments as final; what they say is the context of the next window."""
        for part in found:
            if agreeing.text_of(part.words).strip():
                event = self._segment(part, stable=len(agreeing.text_of(part.words)), final=True)
                self._count += 1
                yield from _tell(event)
            self._times = self._times[self._words_in(part) :]
        if not self._task.condition_on_previous:
            self._context.clear()
            return
        said = agreeing.text_ids([one for part in found for one in part.words])
        self._context = [*self._context, *said][-MAX_CONTEXT:]

    def _words_in(self, part: Part) -> int:
        """How many of the timed words are of a segment."""
        return len(words.shared_out(self._times, [len(agreeing.text_ids(part.words))])[0])

    def _segment(self, part: Part, *, stable: int, final: bool) -> Segment:
        told = tuple(
            Word(
                text=one.text,
                start_s=round(one.start_s, 2),
                end_s=round(one.end_s, 2),
                probability=one.probability,
            )
            for one in self._times[: self._words_in(part)]
        )
        return Segment(
            request_id=self._request_id,
            seq=self._count,
            start_s=told[0].start_s if told else _seconds(self._seek + part.start),
            end_s=told[-1].end_s if told else _seconds(self._seek + part.end),
            text=agreeing.text_of(part.words),
            final=final,
            tokens=agreeing.ids_of(part.words),
            seek_s=_seconds(self._seek),
            temperature=self._last.temperature,
            avg_logprob=self._last.avg_logprob,
            compression_ratio=self._last.compression_ratio,
            no_speech_prob=self._last.no_speech_prob,
            words=told,
            stable=stable,
        )

    def _tell_activity(self, *, speaking: bool, frame: int) -> Steps[None]:
        yield from _tell(
            Activity(request_id=self._request_id, speaking=speaking, at_s=_seconds(frame))
        )

    def _tell_committed(self, came: Came) -> Steps[None]:
        yield from _tell(Committed(request_id=self._request_id, at_s=_seconds(came.end)))


def _tell(event: Event) -> Steps[None]:
    yield from ask(Tell(event=event), Told)


def _seconds(frame: int) -> float:
    return round(frame / FRAMES_PER_S, 2)
