"""JSON (RFC 8259) in a text that grows: where a value ends, and that it is one, in one pass."""

from __future__ import annotations

import enum
import re

MAX_DEPTH = 256
MAX_LITERAL = 1024
"""Characters of a number."""
SPACE = " \t\n\r"
_BLANKS = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_WORD = re.compile(r"[-+.0-9A-Za-z]*")
_LITERAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null", re.ASCII)
_ESCAPED = frozenset('"\\/bfnrt')
_HEX = frozenset("0123456789abcdefABCDEF")


class NotJson(ValueError):
    """What was read is no JSON. at: the first character that does not fit."""

    def __init__(self, at: int) -> None:
        super().__init__(f"no JSON at character {at}")
        self.at = at


class _Awaits(enum.Enum):
    VALUE = enum.auto()
    VALUE_OR_END = enum.auto()
    KEY = enum.auto()
    KEY_OR_END = enum.auto()
    COLON = enum.auto()
    NEXT = enum.auto()


class JsonScanner:
    """Follows one value. Blanks before it are part of it; those behind it are not."""

    def __init__(self) -> None:
        self.done = False
        self._open: list[str] = []
        self._awaits = _Awaits.VALUE
        self._in_string = False
        self._escape = 0
        """Of an escape in a string, the characters to come; 5 where its kind is to come."""
        self._word = ""

    def feed(self, text: str, at: int) -> int:
        """Read on from `at`; where it ended: behind the value, or at the end of `text`.

        Raises:
            NotJson: this can become no value any more.
        """
        while at < len(text) and not self.done:
            if self._in_string:
                at = self._string(text, at)
            elif self._word:
                at = self._literal(text, at)
            else:
                at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]
                if at < len(text):
                    at = self._token(text, at)
        return at

    def finish(self, at: int) -> None:
        """The text ends here: a number may be whole only now. Raises NotJson where it is not."""
        if self._word:
            self._end_literal(at)
        if not self.done:
            raise NotJson(at)

    def _token(self, text: str, at: int) -> int:
        character, awaits = text[at], self._awaits
        if awaits is _Awaits.COLON:
            if character != ":":
                raise NotJson(at)
            self._awaits = _Awaits.VALUE
        elif awaits is _Awaits.NEXT and character == ",":
            self._awaits = _Awaits.KEY if self._open[-1] == "{" else _Awaits.VALUE
        elif character in "}]":
            self._close(character, at)
        elif awaits in (_Awaits.KEY, _Awaits.KEY_OR_END):
            if character != '"':
                raise NotJson(at)
            self._in_string = True
        elif awaits is _Awaits.NEXT:
            raise NotJson(at)
        else:
            return self._begin(text, at)
        return at + 1

    def _begin(self, text: str, at: int) -> int:
        """A value begins at `at`."""
        character = text[at]
        if character in "{[":
            if len(self._open) == MAX_DEPTH:
                raise NotJson(at)
            self._open.append(character)
            self._awaits = _Awaits.KEY_OR_END if character == "{" else _Awaits.VALUE_OR_END
        elif character == '"':
            self._in_string = True
        elif character in "-0123456789tfn":
            self._word = character
        else:
            raise NotJson(at)
        return at + 1

    def _close(self, character: str, at: int) -> None:
        fits = self._awaits is _Awaits.NEXT or self._awaits is (
            _Awaits.KEY_OR_END if character == "}" else _Awaits.VALUE_OR_END
        )
        if not fits or not self._open or self._open[-1] != ("{" if character == "}" else "["):
            raise NotJson(at)
        self._open.pop()
        self._end_value()

    def _end_value(self) -> None:
        self._awaits = _Awaits.NEXT
        self.done = not self._open

    def _string(self, text: str, at: int) -> int:
        if self._escape:
            return self._escaped(text, at)
        at = _PLAIN.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return at
        if text[at] == "\\":
            self._escape = 5
        elif text[at] == '"':
            self._in_string = False
            if self._awaits in (_Awaits.KEY, _Awaits.KEY_OR_END):
                self._awaits = _Awaits.COLON
            else:
                self._end_value()
        else:
            raise NotJson(at)
        return at + 1

    def _escaped(self, text: str, at: int) -> int:
        character = text[at]
        if self._escape < 5:
            if character not in _HEX:
                raise NotJson(at)
            self._escape -= 1
        elif character == "u":
            self._escape = 4
        elif character in _ESCAPED:
            self._escape = 0
        else:
            raise NotJson(at)
        return at + 1

    def _literal(self, text: str, at: int) -> int:
        end = _WORD.match(text, at).end()  # type: ignore[union-attr]
        self._word += text[at:end]
        if len(self._word) > MAX_LITERAL:
            raise NotJson(at)
        if end < len(text):
            self._end_literal(end)
        return end

    def _end_literal(self, at: int) -> None:
        if not _LITERAL.fullmatch(self._word):
            raise NotJson(at)
        self._word = ""
        self._end_value()
