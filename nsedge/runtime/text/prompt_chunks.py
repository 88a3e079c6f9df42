"""Prompts of pictures to token ids: in as many pieces as a text encoder's context needs."""

from __future__ import annotations

from tokenizers import Tokenizer

from nsedge.bundle.diffusion import PromptReading
from nsedge.errors import ContextExceeded
from nsedge.runtime.text.reader import Naming, check_unicode

MAX_CHUNKS = 8
"""Of one prompt."""


class PromptChunks:
    """Reads prompts for one text encoder. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, reading: PromptReading) -> None:
        """Take `tokenizer` over: a special token's name in a prompt is text."""
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._reading = reading
        self._room = reading.context_length - 2

    def tokens(self, text: str, param: str) -> list[int]:
        """The tokens of a prompt, which is called `param`, without those around it.

        Raises:
            InvalidParameter: a lone surrogate.
            ContextExceeded: it is longer than MAX_CHUNKS pieces.
        """
        check_unicode(text, 0, Naming(param=param, name=lambda _: param))
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        most = MAX_CHUNKS * self._room
        if len(ids) > most:
            raise ContextExceeded(
                f"{param} has {len(ids)} tokens; the model reads {most}",
                param=param,
                figures={"context_tokens": most, "prompt_tokens": len(ids)},
            )
        return ids

    def chunks_of(self, ids: list[int]) -> int:
        """Pieces that so many tokens are; no tokens are one."""
        return max(1, -(-len(ids) // self._room))

    def framed(self, ids: list[int], chunks: int) -> list[tuple[int, ...]]:
        """The tokens in `chunks` pieces, each as long as the context."""
        reading, room = self._reading, self._room
        pieces = [ids[at * room : (at + 1) * room] for at in range(chunks)]
        return [
            (
                reading.begin_id,
                *piece,
                reading.end_id,
                *[reading.pad_id] * (room - len(piece)),
            )
            for piece in pieces
        ]
