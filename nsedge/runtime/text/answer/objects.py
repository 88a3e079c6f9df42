"""Calls as objects of JSON, their arguments given on as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass

from nsedge.runtime.text.answer.formats import CallFormat
from nsedge.runtime.text.answer.reading import NoCall, Pausing, Reading, check_name
from nsedge.runtime.text.answer.scanner import JsonScanner, NotJson

_ASIDE = frozenset({"type", "id", "call_id", "tool_call_id", "index"})
"""Keys of a call that say nothing here."""


@dataclass(slots=True)
class Called:
    """A call that is being read."""

    name: str | None = None
    id: str | None = None
    """Where the model gives it one."""
    arguments: str | None = None
    """Those that came before the name."""
    has_begun: bool = False


class ObjectReading(Reading):
    """Reads such calls."""

    def __init__(
        self,
        form: CallFormat,
        *,
        tools: Collection[str],
        new_id: Callable[[], str],
        parallel: bool,
    ) -> None:
        """tools: names that a call without a mark has to have. parallel: whether there may be
        several calls."""
        super().__init__(new_id)
        self._form = form
        self._tools = tools
        self._parallel = parallel
        self.is_full = False
        """The one call is made that there may be."""

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

    def _object(self, *, known: bool = False) -> Pausing:
        """known: only the name of a tool makes it a call."""
        call = Called()
        yield from self._members(call, known=known, inner=False)
        if not call.has_begun:
            self._begin(call.name)
            self._argue(call.arguments or "{}")
            self.is_open = False
        self._end_call()

    def _members(self, call: Called, *, known: bool, inner: bool) -> Pausing:
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

    def _member(self, call: Called, key: str, *, known: bool, inner: bool) -> Pausing:
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

    def _ends_early(self, call: Called) -> Generator[None, None, bool]:
        """Whether the mark behind a call follows its arguments, so that a bracket is missing."""
        end = self._form.end
        return call.has_begun and end is not None and (yield from self._is_next(end))

    def _arguments(self, call: Called) -> Pausing:
        """Give an object on as it comes."""
        scanner = JsonScanner()
        self._begin(call.name, call.id)
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
