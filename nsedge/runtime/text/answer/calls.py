"""Tool calls in a text that grows.

A reader is written as one pass over the text that pauses, as a generator, where the text ends for
now. What has not become a part yet is kept; where it turns out to be no call it is text, from its
first character on, and what follows is looked at anew. Once the arguments of a call have begun, the
call stands: what goes wrong in them ends it, and what follows is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass

from nsedge.runtime.text.answer.formats import Body, CallFormat
from nsedge.runtime.text.answer.parameters import IsText, ParameterReading
from nsedge.runtime.text.answer.parts import Part
from nsedge.runtime.text.answer.reading import (
    MAX_NAME,
    NAME_CHARACTERS,
    NoCall,
    Pausing,
    check_name,
)
from nsedge.runtime.text.answer.scanner import SPACE, JsonScanner, NotJson
from nsedge.runtime.text.answer.thoughts import half_mark

_CALL_ID = "[CALL_ID]"
FENCE = "```"
_ASIDE = frozenset({"type", "id", "call_id", "tool_call_id", "index"})
"""Keys of a call that say nothing here."""


@dataclass(slots=True)
class _Call:
    """A call that is being read."""

    name: str | None = None
    arguments: str | None = None
    """Those that came before the name."""
    has_begun: bool = False


class CallReader(ParameterReading):
    """Tells the calls in one answer from its text, piece by piece; any split gives the same."""

    def __init__(
        self,
        form: CallFormat,
        *,
        tools: Collection[str],
        new_id: Callable[[], str],
        is_text: IsText = lambda name, key: True,
        parallel: bool = True,
    ) -> None:
        """tools: names that a call without a mark has to have. parallel: whether there may be
        several calls; where not, the first is the end (`is_full`). is_text: of parameters."""
        super().__init__(new_id)
        self._form = form
        self._tools = tools
        self._is_text = is_text
        self._parallel = parallel
        self._begins = re.compile("|".join(map(re.escape, form.begins)))
        self.is_full = False
        """The one call is made that there may be."""
        self._reading = self._read()
        next(self._reading, None)

    def push(self, text: str) -> list[Part]:
        """Read on; the parts that are certain now."""
        self._grow(text)
        next(self._reading, None)
        parts, self._parts = self._parts, []
        return parts

    def end(self) -> list[Part]:
        """The text is whole: what was held back."""
        self._is_whole = True
        return self.push("")

    # The answer as a whole.

    def _read(self) -> Pausing:
        if self._form.unmarked:
            yield from self._attempt(self._unmarked(), marked=False)
        while not self.is_full and (yield from self._find_mark()):
            yield from self._attempt(self._marked(), marked=True)
        self._at = self._kept = len(self._text)

    def _find_mark(self) -> Generator[None, None, bool]:
        """Say what comes before the next mark, and read that; whether there was one."""
        while True:
            if found := self._begins.search(self._text, self._kept):
                self._say(found.start())
                self._at = found.end()
                return True
            end = len(self._text)
            self._say(end if self._is_whole else half_mark(self._text, self._form.begins))
            if self._is_whole:
                return False
            yield

    def _attempt(self, reading: Pausing, *, marked: bool) -> Pausing:
        """Read calls; where they are none, what was read of them is text."""
        calls = self.calls
        try:
            yield from reading
            self._drop()
        except NoCall:
            self.is_open = self.is_open and self._is_whole
            if marked and self.calls == calls:
                self._say(self._kept + 1)  # else the same mark is found again
            self._at = self._kept

    # What stands at a mark.

    def _marked(self) -> Pausing:
        form = self._form
        mark = self._text[self._kept : self._at]
        if form.body is Body.HEADED:
            yield from self._headed()
        else:
            if mark[-1].isalpha():  # a word of the text, unless the array follows at once
                yield from self._expect("[")
                self._at -= 1
            yield from self._blanks()
            at = yield from self._peek()
            if at == "[":
                yield from self._array()
            elif at == "{":
                yield from self._object()
            elif form.body is Body.PARAMETERS:
                yield from self._function(self._is_text)
                self._end_call()
            elif form.body is Body.EITHER:
                yield from self._headed()
            else:
                raise NoCall
        if not self.is_full and form.end is not None:
            yield from self._closing(form.end)
        yield from self._further(objects=form.bare)

    def _further(self, *, objects: bool, fenced: bool = False) -> Pausing:
        """Blanks behind a call are not said, nor the end of the code block that it is in; further
        `objects` may be calls, which a semicolon may part."""
        self._drop()
        while not self.is_full and (yield from self._more()):
            if self._text[self._at] in SPACE or (self._form.bare and self._text[self._at] == ";"):
                self._at += 1
            elif objects and self._text[self._at] == "{":
                yield from self._object(known=True)
            elif fenced and (yield from self._is_next(FENCE)):
                self._at += len(FENCE)
                fenced = False
            else:
                return
            self._drop()

    def _unmarked(self) -> Pausing:
        yield from self._blanks()
        fenced = yield from self._is_next(FENCE)
        if fenced:
            self._at += len(FENCE)
            while (yield from self._peek()).isalpha():
                self._at += 1
            yield from self._blanks()
        if (yield from self._peek()) != "{":
            raise NoCall
        yield from self._object(known=True)
        yield from self._further(objects=True, fenced=fenced)

    def _closing(self, mark: str) -> Pausing:
        """The mark behind a call, if it is there; one bracket too many before it is let go."""
        self._drop()
        yield from self._blanks()
        if (yield from self._more()) and self._text[self._at] in "}]":
            self._at += 1
            yield from self._blanks()
        if (yield from self._is_next(mark)):
            self._at += len(mark)
            self._drop()
        else:
            self._at = self._kept

    def _array(self) -> Pausing:
        yield from self._expect("[")
        while not self.is_full:
            yield from self._blanks()
            yield from self._object()
            if self.is_full:
                return
            yield from self._blanks()
            if (yield from self._peek()) == "]":
                self._at += 1
                return
            self._drop()
            yield from self._expect(",")

    def _headed(self) -> Pausing:
        """A name, what ends it, and arguments."""
        name = ""
        while len(name) <= MAX_NAME and (yield from self._peek()) in NAME_CHARACTERS:
            name += self._text[self._at]
            self._at += 1
        check_name(name)
        if (yield from self._is_next(_CALL_ID)):
            self._at += len(_CALL_ID)
            while (yield from self._peek()).isalnum():
                self._at += 1
        for mark in self._form.header_ends:
            if (yield from self._is_next(mark)):
                self._at += len(mark)
                break
        else:
            if self._form.body is Body.HEADED:
                raise NoCall
        yield from self._blanks()
        if (yield from self._peek()) != "{":
            raise NoCall
        yield from self._arguments(_Call(name))
        self._end_call()

    # A call as an object.

    def _object(self, *, known: bool = False) -> Pausing:
        """known: only the name of a tool makes it a call."""
        call = _Call()
        yield from self._members(call, known=known, inner=False)
        if not call.has_begun:
            self._begin(call.name)
            self._argue(call.arguments or "{}")
            self.is_open = False
        self._end_call()

    def _members(self, call: _Call, *, known: bool, inner: bool) -> Pausing:
        yield from self._expect("{")
        yield from self._blanks()
        if (yield from self._peek()) == "}":
            raise NoCall
        while True:
            if (yield from self._peek()) != '"':
                raise NoCall
            key = json.loads((yield from self._value()))
            yield from self._blanks()
            yield from self._expect(":")
            yield from self._blanks()
            yield from self._member(call, key, known=known, inner=inner)
            yield from self._blanks()
            if (yield from self._ends_early(call)):
                return
            if (yield from self._peek()) == "}":
                self._at += 1
                return
            yield from self._expect(",")
            yield from self._blanks()

    def _member(self, call: _Call, key: str, *, known: bool, inner: bool) -> Pausing:
        if key == "function" and not inner and (yield from self._peek()) == "{":
            yield from self._members(call, known=known, inner=True)
        elif key in ("name", "function") and call.name is None:
            name = json.loads((yield from self._value()))
            check_name(name)
            if known and name not in self._tools:
                raise NoCall
            call.name = str(name)
        elif key in ("arguments", "parameters") and call.arguments is None and not call.has_begun:
            if call.name is not None and (yield from self._peek()) == "{":
                yield from self._arguments(call)
            else:
                call.arguments = _unwrapped((yield from self._value()))
        elif key in _ASIDE and (yield from self._peek()) not in "{[":
            yield from self._value()
        else:
            raise NoCall

    def _ends_early(self, call: _Call) -> Generator[None, None, bool]:
        """Whether the mark behind a call follows its arguments, so that a bracket is missing."""
        end = self._form.end
        return call.has_begun and end is not None and (yield from self._is_next(end))

    def _arguments(self, call: _Call) -> Pausing:
        """Give an object on as it comes."""
        scanner = JsonScanner()
        self._begin(call.name)
        call.has_begun = True
        while not scanner.done:
            try:
                self._at = scanner.feed(self._text, self._at)
            except NotJson as error:
                self._at = error.at
                self._argue(self._drop())
                raise NoCall from error
            self._argue(self._drop())
            if not scanner.done:
                yield from self._peek()
        self.is_open = False

    def _value(self) -> Generator[None, None, str]:
        """A whole value, as it is written."""
        scanner, written = JsonScanner(), ""
        while not scanner.done:
            yield from self._peek()
            at = self._at
            try:
                self._at = scanner.feed(self._text, at)
            except NotJson as error:
                raise NoCall from error
            written += self._text[at : self._at]
        return written

    def _end_call(self) -> None:
        self.is_full = not self._parallel


def _unwrapped(value: str) -> str:
    """Arguments as the JSON of an object: as it is, within a string, or none.

    Raises:
        NoCall: they are something else.
    """
    found = json.loads(value)
    written = value
    if isinstance(found, str):
        written = found
        try:
            written.encode()  # half of a surrogate pair is no text
            found = json.loads(found)
        except (ValueError, RecursionError) as error:
            raise NoCall from error
    if found is None:
        return "{}"
    if not isinstance(found, dict):
        raise NoCall
    return written.strip()
