"""What single tokens of a vocabulary stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_NAMED = re.compile(r"<.*>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TokenText:
    """What a token adds to a text, as `nsedge.api.TokenLogprob` tells it."""

    text: str
    raw: bytes | None = None
    special: bool = False

    @classmethod
    def of(cls, octets: bytes) -> TokenText:
        """The text of some bytes, which may be none, or part of a character."""
        try:
            return cls(octets.decode())
        except UnicodeDecodeError:
            return cls(octets.decode(errors="backslashreplace"), octets)


class TokenTexts:
    """The texts of tokens, looked up as they are needed. From any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        by_bytes = isinstance(tokenizer.decoder, decoders.ByteLevel)
        self._bytes = TokenBytes(tokenizer) if by_bytes else None
        added = tokenizer.get_added_tokens_decoder()
        self._known = {
            i: TokenText(token.content, special=True) for i, token in added.items() if token.special
        }

    def __getitem__(self, token_id: int) -> TokenText:
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._find(token_id)
        return known

    def octets(self, token_id: int) -> bytes:
        """What a token adds to a text; a special one adds nothing."""
        token = self[token_id]
        if token.special:
            return b""
        return token.text.encode() if token.raw is None else token.raw

    def _find(self, token_id: int) -> TokenText:
        if self._bytes is not None:
            return TokenText.of(self._bytes[token_id])
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return TokenText("")
        if (byte := _BYTE.fullmatch(token)) is not None:
            return TokenText.of(bytes.fromhex(byte[1]))
        # A decoder may treat the first token of a text in a way of its own: look at the second.
        alone = str(self._tokenizer.decode([token_id], skip_special_tokens=False))
        twice = str(self._tokenizer.decode([token_id] * 2, skip_special_tokens=False))
        return TokenText(twice[len(alone) :])


class TokenBytes:
    """The bytes behind every token of a byte-level BPE vocabulary, looked up as they are needed;
    special tokens have none.

    Such a vocabulary writes bytes as characters: printable ones as themselves, the rest from
    U+0100 on (GPT-2's table). A token with any other character stands for its own UTF-8.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        rest = [byte for byte in range(256) if byte not in printable]
        self._byte_of = {chr(byte): byte for byte in printable}
        self._byte_of.update({chr(0x100 + i): byte for i, byte in enumerate(rest)})
        added = tokenizer.get_added_tokens_decoder()
        self._known = {i: b"" for i, token in added.items() if token.special}

    def __getitem__(self, token_id: int) -> bytes:
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._find(token_id)
        return known

    def _find(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        try:
            return bytes(self._byte_of[character] for character in token)
        except KeyError:
            return str(token).encode()


def is_named(token: AddedToken) -> bool:
    """Whether grammars name an added token, instead of spelling it: no text makes it up there."""
    return bool(token.special or _NAMED.fullmatch(token.content))
