"""The bytes behind every token of a vocabulary, as a grammar over bytes needs them."""

from __future__ import annotations

import re

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
        self._of_bytes = isinstance(tokenizer.decoder, decoders.ByteLevel)
        if not self._of_bytes and tokenizer.token_to_id("<0x0A>") is None:
            raise InvalidParameter(
                "this model's tokenizer is not one of bytes: its answers cannot be held to a"
                " constraint",
                param="constraint",
            )
        token_bytes = TokenBytes(tokenizer)
        self.tokens = [
            token_bytes[token] if self._of_bytes else self._bytes_of(token) for token in range(size)
        ]
        for token, added in tokenizer.get_added_tokens_decoder().items():
            if token < size:
                marker = SPECIAL_MARKER if is_named(added) else b""
                self.tokens[token] = marker + added.content.encode()

    def encode(self, text: str) -> list[int]:
        """How the tokenizer writes a text that stands inside another."""
        before = "" if self._of_bytes else _SENTINEL
        ids: list[int] = self._tokenizer.encode(before + text, add_special_tokens=False).ids
        if self._of_bytes:
            return ids
        seen = b""
        for at, token in enumerate(ids):
            if seen.endswith(_SENTINEL.encode()):
                return ids[at:]
            seen += self.tokens[token]
        return []

    def _bytes_of(self, token: int) -> bytes:
        text = self._tokenizer.id_to_token(token)
        if text is None:
            return b""
        if found := _BYTE.fullmatch(text):
            return bytes([int(found[1], 16)])
        return str(text).replace(_SPACE, " ").encode()
