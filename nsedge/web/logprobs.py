"""How answers tell log-probabilities, at every door; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from nsedge.api import AnyDelta, Delta, Logprobs, PromptLogprobs, Result, TokenLogprob


class TokenObject(TypedDict):
    """A token and how likely it was, in nats; null of the first of a prompt. bytes: what it adds to
    the text, in UTF-8."""

    token: str
    logprob: float | None
    bytes: list[int] | None


def token_object(token: Logprobs | TokenLogprob, *, as_id: bool = False) -> TokenObject:
    """OpenAI's object for a token: its text, or where `as_id` its id in vLLM's form, and its bytes;
    a special token has none."""
    return {
        "token": name_of(token, as_id=as_id),
        "logprob": token.logprob,
        "bytes": None if token.special else list(octets_of(token)),
    }


def name_of(token: Logprobs | TokenLogprob, *, as_id: bool = False) -> str:
    """What a token is called: its text, or its id in vLLM's form."""
    return f"token_id:{token.id}" if as_id else token.text


def octets_of(token: Logprobs | TokenLogprob) -> bytes:
    """What a token that is not special adds to a text, in UTF-8."""
    return token.text.encode() if token.raw is None else token.raw


def told_of_prompt(results: Iterable[Result]) -> list[Logprobs]:
    """All that an answer tells of the prompt's tokens."""
    events = [one for one in results if isinstance(one, PromptLogprobs)]
    return [one for event in events for one in event.logprobs]


def told(results: Iterable[Result]) -> list[Logprobs]:
    """All that an answer tells of the tokens of its text."""
    return [one for delta in results if isinstance(delta, Delta) for one in delta.logprobs]


def told_of_all(results: Iterable[Result]) -> list[Logprobs]:
    """The same of thoughts and calls, too: all that was written."""
    return [one for delta in results if isinstance(delta, AnyDelta) for one in delta.logprobs]
