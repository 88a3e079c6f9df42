"""Tokens to words, and words to times (OpenAI's whisper/timing.py and tokenizer.py).

Punctuation belongs to the word that it stands at. A word next to the end of a sentence or a pause
that would last too long is cut to twice the usual length.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nsedge.runtime.speech.asks import Aligned
from nsedge.runtime.speech.dtw import token_times
from nsedge.runtime.speech.vocabulary import Codec

BEFORE = "\"'“¿([{-"
AFTER = "\"'.。,，!！?？:：”)]}、"
SENTENCE_ENDS = ".。!！?？"
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages that put no spaces between words: each character is one."""
MAX_USUAL_S = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A word; seconds from its window's beginning. tokens: how many it has."""

    text: str
    tokens: int
    start_s: float
    end_s: float
    probability: float


def split(token_ids: Sequence[int], codec: Codec, language: str | None) -> list[tuple[str, int]]:
    """The words of some text tokens, each with the number of its tokens; a character that several
    tokens make is in one word."""
    pieces = _characters(token_ids, codec)
    if language in UNSPACED:
        return pieces
    words: list[tuple[str, int]] = []
    for text, count in pieces:
        apart = not words or text.startswith(" ") or text.strip() in string.punctuation
        if apart:
            words.append((text, count))
        else:
            before, had = words[-1]
            words[-1] = (before + text, had + count)
    return words


def _characters(token_ids: Sequence[int], codec: Codec) -> list[tuple[str, int]]:
    """Tokens grouped so that each group is whole characters."""
    pieces: list[tuple[str, int]] = []
    held, count = b"", 0
    for token in token_ids:
        held += codec.octets(token)
        count += 1
        try:
            text = held.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                continue
            text = held.decode(errors="replace")
        pieces.append((text, count))
        held, count = b"", 0
    if count:
        pieces.append((held.decode(errors="replace"), count))
    return pieces


def timed(
    token_ids: Sequence[int], aligned: Aligned, codec: Codec, language: str | None
) -> list[Timed]:
    """The words of a window's text tokens, with the punctuation that stands at them."""
    times = token_times(aligned.weights)
    words: list[Timed] = []
    at = 0
    for text, count in split(token_ids, codec, language):
        likely = aligned.probabilities[at : at + count]
        words.append(
            Timed(
                text=text,
                tokens=count,
                start_s=float(times[at]),
                end_s=float(times[at + count]),
                probability=float(likely.mean()),
            )
        )
        at += count
    return joined(shortened(words))


def usual_s(words: Sequence[Timed]) -> float:
    """How long a word lasts: the median, 0.7 s at most."""
    durations = [one.end_s - one.start_s for one in words if one.end_s > one.start_s]
    return min(MAX_USUAL_S, float(np.median(durations))) if durations else 0.0


def shortened(words: Sequence[Timed]) -> list[Timed]:
    """Words at the ends of sentences last no longer than twice the usual."""
    most = 2.0 * usual_s(words)
    result = list(words)
    for at in range(1, len(result)):
        one = result[at]
        if one.end_s - one.start_s <= most:
            continue
        if one.text.strip() in SENTENCE_ENDS:
            result[at] = replace(one, end_s=one.start_s + most)
        elif result[at - 1].text.strip() in SENTENCE_ENDS:
            result[at] = replace(one, start_s=one.end_s - most)
    return result


def joined(words: Sequence[Timed]) -> list[Timed]:
    """Punctuation with the word that it stands at; the word keeps its times."""
    behind: list[Timed] = []
    for one in reversed(words):
        if behind and one.text.startswith(" ") and one.text.strip() in BEFORE:
            behind[-1] = _merged(one, behind[-1], behind[-1])
        else:
            behind.append(one)
    result: list[Timed] = []
    for one in reversed(behind):
        if result and not result[-1].text.endswith(" ") and one.text in AFTER:
            result[-1] = _merged(result[-1], one, result[-1])
        else:
            result.append(one)
    return result


def _merged(first: Timed, second: Timed, word: Timed) -> Timed:
    """Both texts, and the times of `word`."""
    return replace(word, text=first.text + second.text, tokens=first.tokens + second.tokens)


def shared_out(words: Sequence[Timed], counts: Sequence[int]) -> list[list[Timed]]:
    """The words of a window by its segments, which have `counts` text tokens each."""
    shares: list[list[Timed]] = []
    at = 0
    for count in counts:
        share: list[Timed] = []
        had = 0
        while at < len(words) and had < count:
            share.append(words[at])
            had += words[at].tokens
            at += 1
        shares.append(share)
    return shares


def settled(
    words: Sequence[Timed], start_s: float, end_s: float, *, spoken_until_s: float, usual: float
) -> list[Timed]:
    """A segment's words, whose first and last are cut where they last too long: after a pause, or
    beyond the segment's own times. spoken_until_s: when the segment before it ended."""
    result = list(words)
    if not result:
        return result
    most = 2.0 * usual
    first = result[0]
    long_first = first.end_s - first.start_s > most
    long_pair = len(result) > 1 and result[1].end_s - first.start_s > 2.0 * most
    if first.end_s - spoken_until_s > 2.0 * most and (long_first or long_pair):
        if len(result) > 1 and result[1].end_s - result[1].start_s > most:
            boundary = max(result[1].end_s / 2.0, result[1].end_s - most)
            first = replace(first, end_s=boundary)
            result[1] = replace(result[1], start_s=boundary)
        first = result[0] = replace(first, start_s=max(0.0, first.end_s - most))
    if start_s < first.end_s and start_s - 0.5 > first.start_s:
        result[0] = replace(first, start_s=max(0.0, min(first.end_s - usual, start_s)))
    last = result[-1]
    if end_s > last.start_s and end_s + 0.5 < last.end_s:
        result[-1] = replace(last, end_s=max(last.start_s + usual, end_s))
    return result
