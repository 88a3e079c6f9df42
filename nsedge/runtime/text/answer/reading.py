"""A text that grows, read in one pass that pauses where it ends for now.

A pass is a generator. What has not become a part yet is kept; where it turns out to be no call it
is text.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Generator

from nsedge.runtime.text.answer.parts import CallPiece, Part, Said
from nsedge.runtime.text.answer.scanner import SPACE

MAX_NAME = 128
NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "_.:/-")

Pausing = Generator[None, None, None]
"""Reads on; pauses where the text ends for now."""


class NoCall(Exception):
    """What was read is no call, or breaks off."""


class Reading:
    """The text, how far it was read, and the parts that came of it."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._text = ""
        self._kept = 0
        """From here on nothing has become a part."""
        self._at = 0
        """How far it was read."""
        self._is_whole = False
        self._parts: list[Part] = []
        self.calls = 0
        """So many have begun."""
        self.is_open = False
        """The last of them may have more arguments: these are neither whole nor broken."""

    def _grow(self, text: str) -> None:
        self._text = self._text[self._kept :] + text
        self._at -= self._kept
        self._kept = 0

    # What becomes of it.

    def _begin(self, name: str | None, call_id: str | None = None) -> None:
        """A call of that name begins. call_id: the model's own, where it gives one."""
        if name is None:
            raise NoCall
        self._drop()
        self._parts.append(CallPiece(self.calls, "", id=call_id or self._new_id(), name=name))
        self.calls += 1
        self.is_open = True

    def _argue(self, arguments: str) -> None:
        """More of the arguments of the call that has begun last."""
        if arguments:
            self._parts.append(CallPiece(self.calls - 1, arguments))

    def _say(self, end: int) -> None:
        if end > self._kept:
            self._parts.append(Said(self._text[self._kept : end]))
        self._kept = self._at = end

    def _drop(self) -> str:
        """What was read has become a part, or is none."""
        read, self._kept = self._text[self._kept : self._at], self._at
        return read

    # Characters.

    def _more(self) -> Generator[None, None, bool]:
        """Whether there is another character."""
        while self._at >= len(self._text):
            if self._is_whole:
                return False
            yield
        return True

    def _peek(self) -> Generator[None, None, str]:
        """The next character; without one, it is no call."""
        if not (yield from self._more()):
            raise NoCall
        return self._text[self._at]

    def _expect(self, character: str) -> Pausing:
        if (yield from self._peek()) != character:
            raise NoCall
        self._at += 1

    def _blanks(self) -> Pausing:
        while (yield from self._more()) and self._text[self._at] in SPACE:
            self._at += 1

    def _is_next(self, mark: str) -> Generator[None, None, bool]:
        """Whether `mark` follows, which is not read yet."""
        for length in range(1, len(mark) + 1):
            while len(self._text) < self._at + length:
                if self._is_whole:
                    return False
                yield
            if self._text[self._at + length - 1] != mark[length - 1]:
                return False
        return True


def check_name(name: object) -> None:
    """Raises NoCall where no tool can be called that."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise NoCall
    if not NAME_CHARACTERS.issuperset(name):
        raise NoCall
