"""OpenAI's two shapes of log-probabilities; pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from nsedge.api import Logprobs, TokenLogprob
from nsedge.web.doors.openai.shapes import (
    ChatLogprobs,
    ChatToken,
    PromptLogprobs,
    RankedToken,
    TextLogprobs,
)
from nsedge.web.logprobs import TokenObject, name_of, octets_of, token_object


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What an answer tells of its tokens.

    - logprobs: of how many of the likeliest in a token's place it tells the log-probabilities, and
      of the token; None tells none.
    - prompt_logprobs: the same of the prompt's tokens, in a field of their own.
    - as_ids: call tokens by their ids, as vLLM's `return_tokens_as_token_ids` has it.
    - echo: the prompts, which stand before what is written; empty where they do not.
    - written: whether what is written is told; it is not of who asked for 0 tokens.
    """

    logprobs: int | None = None
    prompt_logprobs: int | None = None
    as_ids: bool = False
    echo: tuple[str, ...] = ()
    written: bool = True


PLAIN = Telling()


def chat_logprobs(tokens: Sequence[Logprobs], telling: Telling) -> ChatLogprobs:
    """The `logprobs` of a choice of a chat completion, or of a chunk of its stream."""

    def object_of(token: Logprobs | TokenLogprob) -> TokenObject:
        return token_object(token, as_id=telling.as_ids)

    count = telling.logprobs
    content: list[ChatToken] = [
        {**object_of(token), "top_logprobs": [object_of(one) for one in token.top[:count]]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


class CompletionLogprobs:
    """The `logprobs` of a choice of a text completion, or of the chunks of its stream in turn:
    offsets are code points from the beginning of its text."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset = 0

    def of(self, tokens: Sequence[Logprobs]) -> TextLogprobs:
        """Of the next tokens."""
        return {
            "tokens": [self._name(token) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens],
            "text_offset": [self._pass(token) for token in tokens],
        }

    def _top(self, token: Logprobs) -> dict[str, float] | None:
        """By name: of two tokens of one name the likelier, and the token itself always, as at
        OpenAI."""
        if token.logprob is None:
            return None
        named: dict[str, float] = {}
        for one in token.top[: self._telling.logprobs]:
            named.setdefault(self._name(one), one.logprob)
        if named:
            named.setdefault(self._name(token), token.logprob)
        return named

    def _name(self, token: Logprobs | TokenLogprob) -> str:
        name = name_of(token, as_id=self._telling.as_ids)
        return name if token.raw is None or self._telling.as_ids else f"bytes:{name}"

    def _pass(self, token: Logprobs) -> int:
        """Where a token begins; half a character begins where the whole one does."""
        offset = self._offset
        if not token.special:
            self._offset += len(self._decoder.decode(octets_of(token)))
        return offset


def prompt_logprobs(tokens: Sequence[Logprobs], telling: Telling) -> PromptLogprobs:
    """vLLM's `prompt_logprobs`: for each token of the prompt a map by token id, the token itself
    and the likeliest in its place; null for the first."""
    return [_of_prompt(token, telling.prompt_logprobs) for token in tokens]


def _of_prompt(token: Logprobs, count: int | None) -> dict[str, RankedToken] | None:
    if token.logprob is None:
        return None
    ranked = enumerate(token.top[:count], start=1)
    told = {str(one.id): _ranked(one, rank) for rank, one in ranked}
    return {str(token.id): _ranked(token, token.rank), **told}


def _ranked(token: Logprobs | TokenLogprob, rank: int | None) -> RankedToken:
    return {"logprob": token.logprob, "rank": rank, "decoded_token": token.text}
