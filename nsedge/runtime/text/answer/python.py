"""Calls as Python writes them, as LFM2's do.

    [sun(city="Oslo", days=[1, 2]), rain()]

They are given on as the JSON of an object. Values are literals of Python, or of JSON; a word that
is neither is text. Models do not always escape quotes: one that nothing follows but more of the
text does not end it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator

from nsedge.runtime.text.answer.reading import NoCall, Pausing, Reading, check_name
from nsedge.runtime.text.answer.scanner import SPACE

MAX_DEPTH = 32
MAX_WORD = 1024
_NAME = re.compile(r"[\w.:/-]")
_KEY = re.compile(r"\w")
_WORD = re.compile(r"[^\s,()\[\]{}:=\"']")
_NUMBER = re.compile(r"([-+]?)(?:(\d+)(?:\.(\d*))?|\.(\d+))((?:[eE][-+]?\d+)?)", re.ASCII)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_WORDS |= {word: word for word in ("true", "false", "null")}
_QUOTES = "\"'"
_AFTER_TEXT = ",)]}:"
"""What may follow a text, but for blanks."""
LOST = "\N{REPLACEMENT CHARACTER}"
"""In the place of half a character."""
_PLAIN = re.compile(r"[^\\\"']+")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"}
_HEX = {"x": 2, "u": 4, "U": 8}


class PythonReading(Reading):
    """Reads such calls."""

    def _python_call(self) -> Pausing:
        """One call; nothing behind it."""
        name = yield from self._matching(_NAME)
        check_name(name)
        yield from self._blanks()
        yield from self._expect("(")
        yield from self._blanks()
        at = yield from self._peek()
        if at != ")" and (at.isdigit() or not _KEY.match(at)):
            raise NoCall
        self._begin(name)
        before = "{"
        while (yield from self._peek()) != ")":
            key = yield from self._matching(_KEY)
            yield from self._blanks()
            yield from self._expect("=")
            yield from self._blanks()
            self._drop()
            self._argue(f"{before}{_quoted(key)}: ")
            before = ", "
            yield from self._literal(0)
            yield from self._next(")")
        self._at += 1
        self._drop()
        self._argue("{}" if before == "{" else "}")
        self.is_open = False

    def _next(self, end: str) -> Pausing:
        """A comma, which is read, or what ends the list, which is not."""
        yield from self._blanks()
        if (yield from self._peek()) == ",":
            self._at += 1
            yield from self._blanks()
        elif self._text[self._at] != end:
            raise NoCall

    def _matching(self, pattern: re.Pattern[str]) -> Generator[None, None, str]:
        """The characters that each match; one at least."""
        read = ""
        while (yield from self._more()) and pattern.match(self._text[self._at]):
            read += self._text[self._at]
            self._at += 1
            if len(read) > MAX_WORD:
                raise NoCall
        if not read:
            raise NoCall
        return read

    # Values.

    def _literal(self, depth: int) -> Pausing:
        at = yield from self._peek()
        if depth > MAX_DEPTH:
            raise NoCall
        if at in _QUOTES:
            yield from self._string(at)
        elif at in "[(":
            yield from self._items("]" if at == "[" else ")", depth)
        elif at == "{":
            yield from self._entries(depth)
        else:
            word = yield from self._matching(_WORD)
            self._drop()
            self._argue(_as_json(word))

    def _items(self, end: str, depth: int) -> Pausing:
        """A list or a tuple."""
        yield from self._open("[")
        before = ""
        while (yield from self._peek()) != end:
            self._drop()
            self._argue(before)
            before = ", "
            yield from self._literal(depth + 1)
            yield from self._next(end)
        self._close("]")

    def _entries(self, depth: int) -> Pausing:
        """A dictionary; its keys are texts."""
        yield from self._open("{")
        before = ""
        while (at := (yield from self._peek())) != "}":
            if at not in _QUOTES:
                raise NoCall
            self._drop()
            self._argue(before)
            before = ", "
            yield from self._string(at)
            yield from self._blanks()
            yield from self._expect(":")
            yield from self._blanks()
            self._drop()
            self._argue(": ")
            yield from self._literal(depth + 1)
            yield from self._next("}")
        self._close("}")

    def _open(self, bracket: str) -> Pausing:
        self._at += 1
        self._drop()
        self._argue(bracket)
        yield from self._blanks()

    def _close(self, bracket: str) -> None:
        self._at += 1
        self._drop()
        self._argue(bracket)

    def _string(self, quote: str) -> Pausing:
        """A text, given on as it comes."""
        self._at += 1
        self._drop()
        self._argue('"')
        half = ""
        """The first half of a character that was escaped as two."""
        while True:
            if self._at >= len(self._text):
                self._drop()
                if not (yield from self._more()):
                    raise NoCall
            if plain := _PLAIN.match(self._text, self._at):
                self._at = plain.end()
                self._argue(_quoted(f"{half and LOST}{self._drop()}")[1:-1])
                half = ""
                continue
            at = self._text[self._at]
            if at == quote and (yield from self._ends_text()):
                break
            self._at += 1
            character = (yield from self._escaped()) if at == "\\" else at
            self._drop()
            if "\ud800" <= character <= "\udbff" and not half:
                half = character
                continue
            self._argue(_quoted(_whole(half + character))[1:-1])
            half = ""
        self._at += 1
        self._drop()
        self._argue(f'{half and LOST}"')

    def _ends_text(self) -> Generator[None, None, bool]:
        """Whether the quote that comes next ends the text."""
        at = self._at + 1
        while True:
            while at < len(self._text) and self._text[at] in SPACE:
                at += 1
            if at < len(self._text):
                return self._text[at] in _AFTER_TEXT
            if self._is_whole:
                return True
            before = self._kept
            yield
            at -= before - self._kept

    def _escaped(self) -> Generator[None, None, str]:
        """What stands behind a backslash."""
        kind = yield from self._peek()
        self._at += 1
        digits = _HEX.get(kind)
        if digits is None:
            if kind == "\n":
                return ""
            if kind in _ESCAPES:
                return _ESCAPES[kind]
            return kind if kind in "\\'\"" else f"\\{kind}"
        written = ""
        for _ in range(digits):
            written += yield from self._peek()
            self._at += 1
        try:
            return chr(int(written, 16))
        except (ValueError, OverflowError):
            return f"\\{kind}{written}"


def _whole(text: str) -> str:
    """`text`, with characters that were escaped as two halves as one each."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _as_json(word: str) -> str:
    """A word as JSON: a number, what is true, false or nothing, or else text."""
    if word in _WORDS:
        return _WORDS[word]
    found = _NUMBER.fullmatch(word.replace("_", ""))
    if found is None:
        return _quoted(word)
    sign, whole, fraction, alone, exponent = found.groups(default="")
    written = (whole or "0").lstrip("0") or "0"
    decimals = f".{fraction or alone or '0'}" if "." in word else ""
    return f"{'-' if sign == '-' else ''}{written}{decimals}{exponent}"
