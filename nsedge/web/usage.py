"""What an answer tells of its tokens, at every door that follows OpenAI in this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from nsedge.api import Finished


class CachedTokens(TypedDict):
    """Of the prompt's tokens, those that were ready."""

    cached_tokens: int


class Usage(TypedDict):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Clipped(TypedDict, total=False):
    """Told where a max_tokens was lowered to what the context holds."""

    clipped_max_tokens: int


def usage(finished: Sequence[Finished], per_prompt: int) -> Usage:
    """Tokens of all choices; a prompt answered `per_prompt` times counts once."""
    cached = sum(one.usage.cached_tokens for one in finished[::per_prompt])
    prompt = sum(one.usage.prompt_tokens for one in finished[::per_prompt])
    completion = sum(one.usage.completion_tokens for one in finished)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def clipped(finished: Finished) -> Clipped:
    """The field that owns up to a lowered max_tokens; none where nothing was lowered."""
    if finished.clipped_max_tokens is None:
        return {}
    return {"clipped_max_tokens": finished.clipped_max_tokens}
