"""Token ids to text, a piece at a time.

A piece never ends inside a character, and never holds what may yet turn out to be a stop string.
All pieces together are what decoding all ids at once gives, up to the stop string.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from tokenizers import Tokenizer, decoders

from nsedge.runtime.text.answer.parts import Part
from nsedge.runtime.text.tokens import TokenBytes, TokenTexts

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LONGEST_CHARACTER = 4
"""Bytes of the longest UTF-8 character, hence the most tokens that one character spans."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is certain now, and the stop string that ends the whole, if one was met.

    Where an answer is told apart, `parts` are those that are certain, and it `is_full` where
    nothing more is wanted.
    """

    text: str
    stop: str | None = None
    parts: tuple[Part, ...] = ()
    is_full: bool = False

    @property
    def ends(self) -> bool:
        """Whether it is the last."""
        return self.stop is not None or self.is_full


class _Decoding(Protocol):
    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


class Detokenizer:
    """Makes `TextStream`s for one tokenizer. Special tokens have no text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = (
            TokenBytes(tokenizer) if isinstance(tokenizer.decoder, decoders.ByteLevel) else None
        )

    @functools.cached_property
    def tokens(self) -> TokenTexts:
        """What single tokens stand for."""
        return TokenTexts(self._tokenizer)

    def stream(
        self, stop: tuple[str, ...] = (), shown: Collection[str] = frozenset()
    ) -> TextStream:
        """A stream of text that ends before the first of the strings `stop`; special tokens that
        are `shown` have their text."""
        decoding: _Decoding = (
            _WindowDecoding(self._decode) if self._bytes is None else _ByteDecoding(self._bytes)
        )
        added = self._tokenizer.get_added_tokens_decoder() if shown else {}
        special = {
            number: token.content
            for number, token in added.items()
            if token.special and token.content in shown
        }
        if special:
            decoding = _ShowingDecoding(decoding, special)
        return TextStream(decoding, StopFinder(stop))

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


def silent() -> TextStream:
    """A stream that gives no text, for who wants the tokens alone."""
    return TextStream(_NoDecoding(), StopFinder(()))


class TextStream:
    """The text of one sequence."""

    def __init__(self, decoding: _Decoding, stops: StopFinder) -> None:
        self._decoding = decoding
        self._stops = stops

    def push(self, token_id: int, *, may_stop: bool = True) -> Piece:
        """Add a token; with `may_stop` false no stop string is looked for in its text."""
        text = self._decoding.push(token_id)
        return self._stops.push(text) if may_stop else Piece(self._stops.pass_by(text))

    def flush(self) -> str:
        """What was held back, at the end of the sequence."""
        return self._stops.pass_by(self._decoding.flush())


class StopFinder:
    """Looks for stop strings in a growing text, and holds back what may become one."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""

    def push(self, text: str) -> Piece:
        """Add text; what is certain now. After a stop string was met nothing more is looked at."""
        self._held += text
        if not self._stop:
            return Piece(self._take(len(self._held)))
        found = [(at, -len(s), s) for s in self._stop if (at := self._held.find(s)) >= 0]
        if found:
            at, _, stop = min(found)
            piece = Piece(self._held[:at], stop)
            self._held = ""
            return piece
        return Piece(self._take(self._certain()))

    def pass_by(self, text: str) -> str:
        """Add text that is not looked at, and let go of everything held."""
        self._held += text
        return self._take(len(self._held))

    def _certain(self) -> int:
        """How much of the held text cannot be the beginning of a stop string."""
        held = self._held
        longest = max(map(len, self._stop)) - 1
        for at in range(max(0, len(held) - longest), len(held)):
            if any(s.startswith(held[at:]) for s in self._stop):
                return at
        return len(held)

    def _take(self, count: int) -> str:
        text, self._held = self._held[:count], self._held[count:]
        return text


class _NoDecoding:
    """No text of anything."""

    def push(self, token_id: int) -> str:
        return ""

    def flush(self) -> str:
        return ""


class _ByteDecoding:
    """Exact for byte-level vocabularies: bytes through an incremental UTF-8 decoder."""

    def __init__(self, token_bytes: TokenBytes) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        return self._decoder.decode(self._token_bytes[token_id])

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class _ShowingDecoding:
    """Another decoding, with a text for some of the tokens that have none there."""

    def __init__(self, decoding: _Decoding, shown: dict[int, str]) -> None:
        self._decoding = decoding
        self._shown = shown

    def push(self, token_id: int) -> str:
        text = self._shown.get(token_id)
        return self._decoding.push(token_id) if text is None else self._decoding.flush() + text

    def flush(self) -> str:
        return self._decoding.flush()


class _WindowDecoding:
    """For any other decoder: decode a window that begins with text already given out.

    Decoders may look at a token's neighbours (a leading space, runs of byte tokens), so the
    window keeps the tokens of the piece before. Text that ends in U+FFFD may be half a character
    and is held back, for as many tokens as a character can span.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._read = 0
        """Tokens at the window's beginning whose text was given out."""
        self._held = 0
        """Tokens for which the text has ended in what may be half a character."""

    def push(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._decode(self._window)
        given = self._decode(self._window[: self._read])
        self._held = self._held + 1 if text.endswith(REPLACEMENT) else 0
        if 0 < self._held < _LONGEST_CHARACTER:
            return ""
        self._held = 0
        if len(text) <= len(given):
            return ""
        self._window = self._window[self._read :]
        self._read = len(self._window)
        return text[len(given) :]

    def flush(self) -> str:
        text = self._decode(self._window)
        given = self._decode(self._window[: self._read])
        self._window, self._read = [], 0
        return text[len(given) :]
