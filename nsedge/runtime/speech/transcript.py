"""The transcript of a recording, window by window. Pure: it asks for what a model does (`asks`),
and whoever drives it answers.

Sequential decoding as in OpenAI's whisper/transcribe.py: a window begins where the one before was
heard to, is prompted with what was said before, and is tried at higher temperatures where the
result is doubtful. Windows that nobody speaks in give nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from nsedge.api import Event, Language, Progress, Segment, Transcribe, Word
from nsedge.runtime.audio.samples import FRAMES_PER_S
from nsedge.runtime.audio.timeline import Timeline
from nsedge.runtime.speech import judging, words
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
from nsedge.runtime.speech.segments import Stretch, cut
from nsedge.runtime.speech.vocabulary import CONTEXT, Codec, SpeechTokens, text_of

MAX_PREVIOUS = CONTEXT // 2 - 1
"""Tokens of what was said before that a window is prompted with."""
MAX_WRITTEN = CONTEXT // 2
LEAST_FRAMES = 10
"""A shorter rest of the recording is no window of its own: a model makes words up there."""
ENGLISH = "en"


class Transcript:
    """One transcript; `steps` makes it, once."""

    def __init__(
        self,
        *,
        request_id: str,
        task: Transcribe,
        tokens: SpeechTokens,
        codec: Codec,
        timeline: Timeline,
        seconds: float | None,
    ) -> None:
        """timeline: the recording's. seconds: of sound, where that is known.

        Raises:
            InvalidParameter: the model does not do what the task asks for.
        """
        self._request_id = request_id
        self._task = task
        self._tokens = tokens
        self._codec = codec
        self._timeline = timeline
        self._seconds = seconds
        self._limits = Thresholds(
            compression_ratio=task.max_compression_ratio,
            avg_logprob=task.min_logprob,
            no_speech_prob=task.max_no_speech_prob,
        )
        self._rules = Rules(tokens)
        self._language = task.language
        self._language_told = False
        self._opening: tuple[int, ...] = ()
        if task.language is not None or not tokens.languages:
            self._speaks(task.language)
        elif task.translate:
            tokens.opening(next(iter(tokens.languages)), translate=True)
        self._previous = codec.encode(f" {prompt}") if (prompt := task.prompt.strip()) else []
        self._said = ""
        self._count = 0
        self._spoken_until_s = 0.0
        self.written = 0
        """Tokens so far, of all tries."""

    def steps(self) -> Steps[None]:
        """All that is asked on the way; the events of the transcript among it."""
        seek = 0
        heard = yield from ask(Hear(start=seek), Heard)
        while heard.frames and (heard.frames >= LEAST_FRAMES or not seek):
            advance = heard.frames
            if not heard.is_silent:
                yield from self._find_language()
                advance = yield from self._hear_out(seek, heard.frames)
            seek += advance
            yield from self._tell_progress(seek)
            heard = yield from ask(Hear(start=seek), Heard)

    def _hear_out(self, seek: int, frames: int) -> Steps[int]:
        """Tell what is said in the window; the frames until the next one begins."""
        judged = yield from self._decode()
        advance = frames
        if not judged.is_silence(self._limits):
            advance = yield from self._say(judged, seek, frames)
        drawn = judged.temperature > judging.RESET_ABOVE or judged.is_doubtful(self._limits)
        if drawn or not self._task.condition_on_previous:
            self._previous.clear()
        return advance

    def _speaks(self, language: str | None) -> None:
        self._opening = self._tokens.opening(language, translate=self._task.translate)
        self._language = language or ENGLISH

    def _find_language(self) -> Steps[None]:
        """Detect it where it was not told, and tell it; once."""
        if self._language_told:
            return
        self._language_told = True
        probability = 1.0
        if not self._opening:
            detected = yield from ask(Detect(), Detected)
            likely = detected.probabilities
            language = max(likely, key=likely.__getitem__)
            probability = likely[language]
            self._speaks(language)
        event = Language(
            request_id=self._request_id, language=self._language or ENGLISH, probability=probability
        )
        yield from _tell(event)

    def _decode(self) -> Steps[Judged]:
        """What was written of the window that was heard last, at the first temperature that gives
        something to be believed. A text that repeats itself is tried anew without what was said
        before, which is where loops come from."""
        tried: list[Judged] = []
        prompt = self._prompt()
        for temperature in self._task.temperatures:
            draws = temperature > 0.0
            wanted = Decode(
                prompt=prompt,
                temperature=temperature,
                samples=self._task.best_of if draws else 1,
                beams=1 if draws else self._task.beams,
                patience=self._task.patience,
                rules=self._rules,
                max_tokens=min(MAX_WRITTEN, CONTEXT - len(prompt)),
            )
            decoded = yield from ask(wanted, Decoded)
            self.written += sum(len(take.tokens) for take in decoded.takes)
            found = judging.judged(
                decoded, temperature, self._codec, self._tokens.end, self._limits
            )
            if not found.is_doubtful(self._limits):
                return found
            if found.repeats(self._limits):
                prompt = self._opening
            tried.append(found)
        return judging.best(tried, self._limits)

    def _prompt(self) -> tuple[int, ...]:
        previous = self._previous[-MAX_PREVIOUS:]
        before = (self._tokens.start_of_previous, *previous) if previous else ()
        return (*before, *self._opening)

    def _say(self, judged: Judged, seek: int, frames: int) -> Steps[int]:
        """Tell the segments of a window; the frames until the next one begins."""
        written = cut(judged.tokens, frames, self._tokens)
        stretches = [one for one in written.stretches if self._text(one).strip()]
        if judged.repeats(self._limits):
            stretches = list({self._text(one): one for one in reversed(stretches)}.values())[::-1]
        self._remember(written.stretches)
        advance = written.advance
        shares: Sequence[Sequence[words.Timed]] = [()] * len(stretches)
        if self._task.word_timestamps and stretches:
            shares = yield from self._words(stretches, seek, frames)
            last = next((share[-1] for share in reversed(shares) if share), None)
            if advance < frames and last is not None and last.end_s > 0.0:
                advance = min(frames, max(1, round(last.end_s * FRAMES_PER_S)))
        for stretch, share in zip(stretches, shares, strict=True):
            yield from _tell(self._segment(stretch, share, judged, seek))
        return advance

    def _remember(self, stretches: Sequence[Stretch]) -> None:
        """What the next window is prompted with. A window that says what the one before it said is
        no prompt: that is how loops begin."""
        said = [token for one in stretches for token in one.tokens]
        text = text_of(self._codec, [token for token in said if token < self._tokens.end])
        if text and text == self._said:
            self._previous.clear()
        else:
            self._previous = [*self._previous, *said][-MAX_PREVIOUS:]
        self._said = text

    def _words(
        self, stretches: Sequence[Stretch], seek: int, frames: int
    ) -> Steps[list[list[words.Timed]]]:
        """The words of each segment."""
        texts = [[token for token in one.tokens if token < self._tokens.end] for one in stretches]
        whole = tuple(token for text in texts for token in text)
        aligned = yield from ask(Align(prompt=self._opening, text=whole, frames=frames), Aligned)
        found = words.timed(whole, aligned, self._codec, self._language)
        usual = words.usual_s(found)
        until_s = self._spoken_until_s - seek / FRAMES_PER_S
        shares = []
        for one, share in zip(
            stretches, words.shared_out(found, [len(text) for text in texts]), strict=True
        ):
            shares.append(
                words.settled(share, one.start_s, one.end_s, spoken_until_s=until_s, usual=usual)
            )
            until_s = shares[-1][-1].end_s if shares[-1] else until_s
        self._spoken_until_s = until_s + seek / FRAMES_PER_S
        return shares

    def _segment(
        self, stretch: Stretch, share: Sequence[words.Timed], judged: Judged, seek: int
    ) -> Segment:
        begin_s = seek / FRAMES_PER_S
        told = tuple(self._word(one, begin_s) for one in share)
        start_s, end_s = self._timeline.span(begin_s + stretch.start_s, begin_s + stretch.end_s)
        if told:
            start_s, end_s = told[0].start_s, told[-1].end_s
        self._count += 1
        return Segment(
            request_id=self._request_id,
            seq=self._count - 1,
            start_s=_rounded(start_s),
            end_s=_rounded(max(start_s, end_s)),
            text=self._text(stretch),
            tokens=stretch.tokens,
            seek_s=_rounded(self._timeline.time(begin_s)),
            temperature=judged.temperature,
            avg_logprob=judged.avg_logprob,
            compression_ratio=judged.compression_ratio,
            no_speech_prob=judged.no_speech_prob,
            words=told,
        )

    def _word(self, one: words.Timed, begin_s: float) -> Word:
        start_s, end_s = self._timeline.span(begin_s + one.start_s, begin_s + one.end_s)
        return Word(
            text=one.text,
            start_s=_rounded(start_s),
            end_s=_rounded(end_s),
            probability=one.probability,
        )

    def _text(self, stretch: Stretch) -> str:
        return text_of(self._codec, [one for one in stretch.tokens if one < self._tokens.end])

    def _tell_progress(self, seek: int) -> Steps[None]:
        done_s = self._timeline.time(seek / FRAMES_PER_S)
        if self._seconds is not None:
            done_s = min(done_s, self._seconds)
        event = Progress(
            request_id=self._request_id, done=_rounded(done_s), total=self._seconds, unit="s"
        )
        yield from _tell(event)


def _tell(event: Event) -> Steps[None]:
    yield from ask(Tell(event=event), Told)


def _rounded(seconds: float) -> float:
    """To 10 ms, as finely as anything is known."""
    return round(seconds, 2)
