"""How likely the model found tokens: those that it wrote, those of the prompt, and others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token of the vocabulary and its log-probability, in nats: the model's own, over the whole
    vocabulary, before anything of the sampling (docs/decisions/sampling.md).

    - text: what the token adds to a text. Bytes that are no character by themselves stand as \\xNN;
      `raw` has them then.
    - special: a control token, such as an end of sequence: `text` is its name, and it adds nothing.
    """

    id: int
    logprob: float
    text: str
    raw: bytes | None = None
    special: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Logprobs:
    """A token of a text, and the likeliest tokens in its place.

    - logprob, rank: of the token; rank 1 is the likeliest. None for the first of a prompt, before
      which there is nothing.
    - top: as many as were asked for, the likeliest first, equal ones by id. The token may be among
      them.
    - text, raw, special: as of `TokenLogprob`.
    """

    id: int
    logprob: float | None
    rank: int | None
    text: str
    raw: bytes | None = None
    special: bool = False
    top: tuple[TokenLogprob, ...] = ()
