"""What is said of sound that still comes, as far as successive hearings agree: local agreement of
two hypotheses (Liu et al. 2020; Macháček et al. 2023, "Turning Whisper into Real-Time Transcription
System", https://arxiv.org/abs/2307.14743). Pure.

A hypothesis is a row of words, each with its tokens and the timestamps before it. What two in a row
begin with is settled: the next is written behind it, so that it never changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nsedge.runtime.speech import words
from nsedge.runtime.speech.vocabulary import FRAMES_A_TOKEN, Codec, SpeechTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A word, with the timestamps that stand before it."""

    text: str
    times: tuple[int, ...]
    tokens: tuple[int, ...]

    @property
    def begins_segment(self) -> bool:
        """Whether a segment ends before it."""
        return len(self.times) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """Words that were written of a window. closing: the timestamp behind them, if there is one."""

    words: tuple[Said, ...]
    closing: int | None = None


def hypothesis(
    drawn: Sequence[int], tokens: SpeechTokens, codec: Codec, language: str | None
) -> Hypothesis:
    """The words of what was drawn."""
    found: list[Said] = []
    times: tuple[int, ...] = ()
    for is_time, run in itertools.groupby(drawn, lambda token: token >= tokens.first_timestamp):
        ids = tuple(run)
        if is_time:
            times = ids
            continue
        at = 0
        for text, count in words.split(ids, codec, language):
            piece = ids[at : at + count]
            at += count
            if found and not times and not plain(text) and not text.startswith(" "):
                found[-1] = replace(
                    found[-1], text=found[-1].text + text, tokens=found[-1].tokens + piece
                )
            else:
                found.append(Said(text=text, times=times, tokens=piece))
            times = ()
    return Hypothesis(words=tuple(found), closing=times[0] if times and found else None)


def agreed(before: Sequence[Said], now: Sequence[Said]) -> int:
    """How many words both begin with, whatever their case and punctuation."""
    pairs = zip(before, now, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: same(*pair), pairs))


def same(one: Said, other: Said) -> bool:
    """Whether two are the same word."""
    return plain(one.text) == plain(other.text)


def plain(text: str) -> str:
    """A word without case and punctuation."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def ids_of(said: Sequence[Said]) -> tuple[int, ...]:
    """The tokens of words, timestamps among them."""
    return tuple(token for one in said for token in (*one.times, *one.tokens))


def text_ids(said: Sequence[Said]) -> tuple[int, ...]:
    """The tokens of words alone."""
    return tuple(token for one in said for token in one.tokens)


def text_of(said: Sequence[Said]) -> str:
    """The text of words."""
    return "".join(one.text for one in said)


def moved(said: Sequence[Said], by: int, tokens: SpeechTokens) -> tuple[Said, ...]:
    """Words in a window that begins `by` timestamps later; the first of them begins it."""
    result = []
    for number, one in enumerate(said):
        times = one.times if number else one.times[-1:]
        later = tuple(max(tokens.first_timestamp, token - by) for token in times)
        result.append(replace(one, times=later))
    return tuple(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Words of one segment; frames from the beginning of their window."""

    words: tuple[Said, ...]
    start: int
    end: int


def parts(said: Sequence[Said], closing: int | None, frames: int, first: int) -> list[Part]:
    """Words by segment, each as long as its timestamps tell, and none without a time; the last ends
    at `closing`, or else with the window's `frames` frames. first: the first timestamp."""
    begins = [at for at, one in enumerate(said) if at and one.begins_segment]
    found: list[Part] = []
    for at, until in itertools.pairwise([0, *begins, len(said)]):
        group = tuple(said[at:until])
        if not group:
            continue
        following = said[until].times[0] if until < len(said) else closing
        start = _frame(group[0].times[-1], first) if group[0].times else 0
        end = frames if following is None else _frame(following, first)
        end = min(max(end, start + FRAMES_A_TOKEN), max(frames, FRAMES_A_TOKEN))
        found.append(Part(words=group, start=min(start, end - FRAMES_A_TOKEN), end=end))
    return found


def _frame(timestamp: int, first: int) -> int:
    return (timestamp - first) * FRAMES_A_TOKEN
