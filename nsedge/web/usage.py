"""What an answer tells of its tokens, at every door that follows OpenAI in this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nsedge.api import Finished


def usage(finished: Sequence[Finished], per_prompt: int) -> dict[str, Any]:
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


def clipped(finished: Finished) -> dict[str, int]:
    """The field that owns up to a lowered max_tokens; none where nothing was lowered."""
    if finished.clipped_max_tokens is None:
        return {}
    return {"clipped_max_tokens": finished.clipped_max_tokens}
