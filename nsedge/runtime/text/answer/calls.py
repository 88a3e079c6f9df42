"""Tool calls in a text that grows.

A reader is written as one pass over the text that pauses, as a generator, where the text ends for
now. What has not become a part yet is kept; where it turns out to be no call it is text, from its
first character on, and what follows is looked at anew. Once the arguments of a call have begun, the
call stands: what goes wrong in them ends it, and what follows is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator

from nsedge.runtime.text.answer.formats import Body, CallFormat
from nsedge.runtime.text.answer.objects import Called, ObjectReading
from nsedge.runtime.text.answer.parameters import IsText, ParameterReading
from nsedge.runtime.text.answer.parts import Part
from nsedge.runtime.text.answer.python import PythonReading
from nsedge.runtime.text.answer.reading import (
    MAX_NAME,
    NAME_CHARACTERS,
    NoCall,
    Pausing,
    check_name,
)
from nsedge.runtime.text.answer.scanner import SPACE
from nsedge.runtime.text.answer.thoughts import half_mark

_CALL_ID = "[CALL_ID]"
FENCE = "```"


class CallReader(ObjectReading, ParameterReading, PythonReading):
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
        super().__init__(form, tools=tools, new_id=new_id, parallel=parallel)
        self._is_text = is_text
        self._marks = (*form.begins, *(() if form.section is None else form.section[:1]))
        self._any_mark = re.compile("|".join(map(re.escape, self._marks)))
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
            if found := self._any_mark.search(self._text, self._kept):
                self._say(found.start())
                self._at = found.end()
                return True
            end = len(self._text)
            self._say(end if self._is_whole else half_mark(self._text, self._marks))
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
        if form.section is not None and mark == form.section[0]:
            yield from self._blanks()
            if not (yield from self._is_next(form.begins[0])):
                raise NoCall
            self._at += len(form.begins[0])
        if form.body is Body.HEADED:
            yield from self._headed()
        elif form.body is Body.PYTHON:
            yield from self._listed()
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
        """Blanks behind a call are not said, nor the end of the code block or section that it is
        in; further `objects` may be calls, which a semicolon may part."""
        section_end = self._form.section[1] if self._form.section else None
        self._drop()
        while not self.is_full and (yield from self._more()):
            if self._text[self._at] in SPACE or (self._form.bare and self._text[self._at] == ";"):
                self._at += 1
            elif objects and self._text[self._at] == "{":
                yield from self._object(known=True)
            elif fenced and (yield from self._is_next(FENCE)):
                self._at += len(FENCE)
                fenced = False
            elif section_end is not None and (yield from self._is_next(section_end)):
                self._at += len(section_end)
                section_end = None
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

    def _headed(self) -> Pausing:
        """A name, what ends it, and arguments."""
        name = yield from self._word()
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
        if self._form.section and (yield from self._peek()) not in "{`":
            name = yield from self._word()  # the one before said that it is a function
            check_name(name)
        if self._form.section:
            yield from self._fence(begins=True)
            yield from self._blanks()
        if (yield from self._peek()) != "{":
            raise NoCall
        yield from self._arguments(
            Called(*_numbered(name)) if self._form.numbered else Called(name)
        )
        if self._form.section:
            yield from self._fence(begins=False)
        self._end_call()

    def _word(self) -> Generator[None, None, str]:
        """What may be a name."""
        word = ""
        while len(word) <= MAX_NAME and (yield from self._peek()) in NAME_CHARACTERS:
            word += self._text[self._at]
            self._at += 1
        return word

    def _fence(self, *, begins: bool) -> Pausing:
        """Where a code block begins or ends, if it does; blanks before it."""
        yield from self._blanks()
        if (yield from self._is_next(FENCE)):
            self._at += len(FENCE)
            while begins and (yield from self._more()) and self._text[self._at].isalpha():
                self._at += 1

    def _listed(self) -> Pausing:
        """Calls as Python writes them, in a list or by themselves; or objects."""
        yield from self._blanks()
        start = self._at - self._kept
        in_list = (yield from self._peek()) == "["
        if in_list:
            self._at += 1
            yield from self._blanks()
        if (yield from self._peek()) == "{":
            self._at = self._kept + start
            yield from self._array() if in_list else self._object()
            return
        while True:
            yield from self._python_call()
            self._end_call()
            if self.is_full or not in_list:
                return
            yield from self._next("]")
            if (yield from self._peek()) == "]":
                self._at += 1
                return
            self._drop()


def _numbered(name: str) -> tuple[str, str]:
    """The name of `functions.NAME:NUMBER`, and the whole as an id."""
    bare, _, number = name.removeprefix("functions.").rpartition(":")
    return (bare if bare and number.isdigit() else name.removeprefix("functions.")), name
