"""The bytes behind every token of a vocabulary, as a grammar over bytes needs them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders

from nsedge.errors import InvalidParameter
from nsedge.runtime.text.tokens import TokenBytes, is_named

SPECIAL_MARKER = b"\xff"
"""Begins the bytes of a token that no text can make up; no UTF-8 has it."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
_SENTINEL = "\x02"
"""Stands before what is tokenised, so that nothing is put before that; itself left out again."""


class Vocabulary:
    """The tokens that a model has rows for: `tokens[i]` are the bytes of token i, empty where it
    can never come. Special ones, and added ones like `<tool_call>`, begin with `SPECIAL_MARKER`.
    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """`size`: rows of the model; ids that the tokenizer does not know have no bytes.

        Raises:
            InvalidParameter: the tokenizer is neither of bytes nor falls back to them.
        """
        self._tokenizer = tokenizer
        of_bytes = isinstance(tokenizer.decoder, decoders.ByteLevel)
        if not of_bytes and tokenizer.token_to_id("<0x0A>") is None:
            raise InvalidParameter(
                "this model's tokenizer is not one of bytes: its answers cannot be held to a"
                " constraint",
                param="constraint",
            )
        token_bytes = TokenBytes(tokenizer)
        self.tokens = [
            token_bytes[token] if of_bytes else self._bytes_of(token) for token in range(size)
        ]
        for token, added in tokenizer.get_added_tokens_decoder().items():
            if token < size:
                marker = SPECIAL_MARKER if is_named(added) else b""
                self.tokens[token] = marker + added.content.encode()

    def encode(self, text: str) -> list[int]:
        """How the tokenizer writes a text that stands inside another. Where it writes it in other
        bytes, with a blank before it or the name of a special token as that, it is spelt in the
        longest tokens there are, without the bytes that none has.
        """
        wanted = text.encode()
        for before in ("", _SENTINEL):
            ids: list[int] = self._tokenizer.encode(before + text, add_special_tokens=False).ids
            ids = self._after(before.encode(), ids)
            if b"".join(map(self._octets, ids)) == wanted:
                return ids
        return list(self._spelling(wanted))

    def _after(self, before: bytes, ids: list[int]) -> list[int]:
        """The tokens behind those that end with `before`."""
        seen = b""
        for at, token in enumerate(ids):
            if seen.endswith(before):
                return ids[at:]
            seen += self._octets(token)
        return []

    def _spelling(self, text: bytes) -> Iterator[int]:
        longest, at = max(map(len, self._ids), default=0), 0
        while at < len(text):
            sizes = range(min(longest, len(text) - at), 0, -1)
            size = next((size for size in sizes if text[at : at + size] in self._ids), 0)
            if size:
                yield self._ids[text[at : at + size]]
            at += max(size, 1)

    @functools.cached_property
    def _ids(self) -> dict[bytes, int]:
        """The tokens that texts are made of, by their bytes."""
        return {
            octets: token
            for token, octets in enumerate(self.tokens)
            if octets and not octets.startswith(SPECIAL_MARKER)
        }

    def _octets(self, token: int) -> bytes:
        return self.tokens[token] if token < len(self.tokens) else b""

    def _bytes_of(self, token: int) -> bytes:
        text = self._tokenizer.id_to_token(token)
        if text is None:
            return b""
        if found := _BYTE.fullmatch(text):
            return bytes([int(found[1], 16)])
        return str(text).replace(_SPACE, " ").encode()
