"""Finding any of many texts in another, in a time that its length bounds."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

Span = tuple[int, int]
START = 4
"""Characters of a text that are searched for first: few of thousands of texts differ in them."""


class Finder:
    """Finds any of `texts`: at each place the longest, from left to right."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(text for text in texts if text)
        starts = sorted({text[:START] for text in self._texts}, key=len, reverse=True)
        self._start = re.compile("|".join(map(re.escape, starts)) or r"(?!)")
        self._lengths = {
            start: sorted(
                {len(text) for text in self._texts if _may_meet(start, text)}, reverse=True
            )
            for start in starts
        }

    def find(self, text: str) -> Iterator[Span]:
        """Where they stand in `text`."""
        at = 0
        while (start := self._start.search(text, at)) is not None:
            begin = start.start()
            ends = (begin + length for length in self._lengths[start.group()])
            end = next((end for end in ends if text[begin:end] in self._texts), None)
            if end is not None:
                yield begin, end
            at = end or begin + 1


def _may_meet(start: str, text: str) -> bool:
    return text.startswith(start) or start.startswith(text)


class Edges:
    """Finds where a text begins or ends with a mere part of one of many others.

    Put beside other words, such a part could become the whole.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        known = [text for text in texts if text]
        self._longest = max(map(len, known), default=0)
        self._ends = _Beginnings(known)
        self._begins = _Beginnings([text[::-1] for text in known])

    def of(self, text: str) -> list[Span]:
        """The parts at the beginning and at the end of `text`, blanks aside."""
        words = text.strip()
        first = self._begins.longest(words[: self._longest][::-1])
        last = self._ends.longest(words[-self._longest :])
        if not first and not last:
            return []
        begin = len(text) - len(text.lstrip())
        end = begin + len(words)
        spans = ((begin, begin + first), (end - last, end))
        return [span for span in spans if span[0] < span[1]]


class _Beginnings:
    """The proper beginnings of some texts."""

    def __init__(self, texts: list[str]) -> None:
        self._sorted = sorted(texts)
        self._first = sorted({text[0] for text in texts})

    def longest(self, tail: str) -> int:
        """The length of the longest one that `tail` ends with; 0 without one."""
        if not any(first in tail for first in self._first):
            return 0
        return next((len(tail) - at for at in range(len(tail)) if self._knows(tail[at:])), 0)

    def _knows(self, part: str) -> bool:
        after = bisect_right(self._sorted, part)
        return after < len(self._sorted) and self._sorted[after].startswith(part)
