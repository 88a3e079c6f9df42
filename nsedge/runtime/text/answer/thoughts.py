"""What a model thinks before it answers, told from the answer."""

from __future__ import annotations

import enum

from nsedge.runtime.text.answer.formats import ThoughtMarks
from nsedge.runtime.text.answer.parts import Part, Said, Thought


def half_mark(text: str, marks: tuple[str, ...]) -> int:
    """Where in `text` a mark may have begun that is not whole yet; its length where none has."""
    longest = max(map(len, marks), default=1) - 1
    for at in range(max(0, len(text) - longest), len(text)):
        tail = text[at:]
        if any(mark.startswith(tail) for mark in marks):
            return at
    return len(text)


class _Place(enum.Enum):
    BEFORE = enum.auto()
    THOUGHT = enum.auto()
    BETWEEN = enum.auto()
    ANSWER = enum.auto()


class ThoughtReader:
    """Splits a growing text into one thought, at its beginning, and the answer.

    The thought loses its marks and the blanks next to them. Where it is not `split`, it is said,
    marks included.
    """

    def __init__(self, marks: ThoughtMarks, *, is_open: bool, split: bool) -> None:
        """is_open: the prompt ends within a thought."""
        self._marks = marks
        self._split = split
        self._held = ""
        self._place = _Place.THOUGHT if is_open else _Place.BEFORE
        self._is_blank = True
        """Nothing of the thought but blanks was there yet."""

    def push(self, text: str) -> tuple[list[Part], str]:
        """What is certain of the thought, and what of the answer behind it."""
        self._held += text
        parts: list[Part] = []
        if self._place is _Place.BEFORE:
            self._before(parts)
        if self._place is _Place.THOUGHT:
            self._think(parts)
        if self._place is _Place.BETWEEN:
            self._held = self._held.lstrip()
            if self._held:
                self._place = _Place.ANSWER
        if self._place is not _Place.ANSWER:
            return parts, ""
        answer, self._held = self._held, ""
        return parts, answer

    def end(self) -> tuple[list[Part], str]:
        """What was held back."""
        held, self._held = self._held, ""
        if self._place is _Place.BEFORE:
            return [], held
        return self._told(held if held.strip() or not self._split else ""), ""

    def _before(self, parts: list[Part]) -> None:
        begin, bare = self._marks.begin, self._held.lstrip()
        if bare.startswith(begin):
            blanks, self._held = self._held[: -len(bare)], bare[len(begin) :]
            if not self._split:
                parts.append(Said(blanks + begin))
            self._place = _Place.THOUGHT
        elif not begin.startswith(bare):
            self._place = _Place.ANSWER

    def _think(self, parts: list[Part]) -> None:
        if self._split and self._is_blank:
            self._held = self._held.lstrip()
        thought, mark, rest = self._held.partition(self._marks.end)
        if mark:
            parts += self._told(thought.rstrip() if self._split else thought + mark)
            self._held = rest
            self._place = _Place.BETWEEN if self._split else _Place.ANSWER
            return
        certain = half_mark(thought, (self._marks.end,))
        if self._split:
            certain = len(thought[:certain].rstrip())
        parts += self._told(thought[:certain])
        self._held = thought[certain:]

    def _told(self, text: str) -> list[Part]:
        if not text:
            return []
        self._is_blank = False
        return [Thought(text) if self._split else Said(text)]
