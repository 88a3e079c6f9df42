"""Texts to token ids for an encoder: special tokens around what was said, and the bounds of the
context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from nsedge.errors import ContextExceeded, InvalidParameter
from nsedge.runtime.text.framing import frame_of_one


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What texts are called where one is refused: the field that they are of, and each by its
    number among those that are read."""

    param: str
    name: Callable[[int], str]


INPUTS = Naming(param="inputs", name="input {}".format)
DOCUMENTS = Naming(param="documents", name="document {} with the query".format)
"""Pairs of a query and a document."""
QUERY_FIRST = Naming(param="documents", name=lambda at: f"document {at - 1}" if at else "the query")
"""A query, and documents behind it."""


class TextReader:
    """Turns texts, or token ids without special ones, into what an encoder reads. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, *, context_length: int, vocab_size: int) -> None:
        """Take `tokenizer` over: no padding, no truncation, and a special token's name in a text is
        text.

        Raises:
            BundleInvalid: it does not put its special tokens around a text.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._vocab_size = vocab_size
        self._frame = frame_of_one(tokenizer)

    def read(
        self,
        inputs: Sequence[str | tuple[int, ...]],
        *,
        truncate: bool,
        naming: Naming = INPUTS,
    ) -> list[tuple[int, ...]]:
        """The ids of each input, special ones around them.

        Raises:
            InvalidParameter: a lone surrogate, or an id that the model does not have.
            ContextExceeded: an input is longer than the model reads, and is not to be cut off.
        """
        texts = [text for text in inputs if isinstance(text, str)]
        for number, text in enumerate(inputs):
            if isinstance(text, str):
                check_unicode(text, number, naming)
        encoded = iter(self._tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        return [
            self._framed(
                tuple(next(encoded).ids) if isinstance(one, str) else self._known(one, number),
                number,
                truncate=truncate,
                naming=naming,
            )
            for number, one in enumerate(inputs)
        ]

    def _known(self, ids: tuple[int, ...], number: int) -> tuple[int, ...]:
        for token in ids:
            if not 0 <= token < self._vocab_size:
                raise InvalidParameter(
                    f"input {number} has token {token}; the vocabulary has {self._vocab_size}",
                    param="inputs",
                )
        return ids

    def _framed(
        self, ids: tuple[int, ...], number: int, *, truncate: bool, naming: Naming
    ) -> tuple[int, ...]:
        frame = self._frame
        room = self._context_length - frame.width
        if len(ids) > room and not truncate:
            raise too_long(naming.name(number), len(ids), room, param=naming.param)
        return (*frame.before, *ids[:room], *frame.after)


def too_long(name: str, tokens: int, room: int, *, param: str) -> ContextExceeded:
    """Why the text `name` is refused."""
    return ContextExceeded(
        f"{name} has {tokens} tokens; the model reads {room}, or cuts off what is longer where"
        " truncate is set",
        param=param,
        figures={"context_tokens": room, "prompt_tokens": tokens},
    )


def check_unicode(text: str, number: int, naming: Naming = INPUTS) -> None:
    """Raises InvalidParameter for a lone surrogate in a text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidParameter(
            f"{naming.name(number)} holds a lone surrogate at character {error.start}",
            param=naming.param,
        ) from error
