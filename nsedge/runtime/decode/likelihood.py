"""What a draw says of log-probabilities, with the texts of its tokens."""

from __future__ import annotations

from typing import Protocol

from nsedge.api import Logprobs, TokenLogprob
from nsedge.runtime.decode.sampling.ranking import Draw
from nsedge.runtime.text.tokens import TokenText


class Texts(Protocol):
    """What tokens stand for."""

    def __getitem__(self, token_id: int) -> TokenText: ...


class LogprobWriter:
    """Tells the log-probabilities of one sequence's tokens."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def of(self, draw: Draw) -> Logprobs:
        """Those of a token that was drawn, and of the likeliest in its place."""
        said = self._texts[draw.id]
        return Logprobs(
            id=draw.id,
            logprob=draw.logprob,
            rank=draw.rank,
            text=said.text,
            raw=said.raw,
            special=said.special,
            top=tuple(self._token(token, logprob) for token, logprob in draw.top),
        )

    def first(self, token: int) -> Logprobs:
        """Of the first token of a prompt, before which there is nothing."""
        said = self._texts[token]
        return Logprobs(
            id=token,
            logprob=None,
            rank=None,
            text=said.text,
            raw=said.raw,
            special=said.special,
        )

    def _token(self, token: int, logprob: float) -> TokenLogprob:
        said = self._texts[token]
        return TokenLogprob(
            id=token, logprob=logprob, text=said.text, raw=said.raw, special=said.special
        )
