"""OpenAI's request bodies as clients write them."""

from __future__ import annotations

from typing import Any

import msgspec

from nsedge.web.bodies import Integer, ModelName
from nsedge.web.request_fields import SamplingFields


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What else a stream carries."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Accepted; nothing is ever padded."""


class OpenAiBody(SamplingFields, kw_only=True):
    """What both OpenAI routes share."""

    model: ModelName
    n: Integer | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Any = None
    """A boolean of a chat, a number of a completion."""
    return_tokens_as_token_ids: bool | None = None
    """vLLM's: in log-probabilities, tokens go by their ids."""


class ContentPart(msgspec.Struct):
    """A part of a message: `text` where `type` is text, `refusal` where it is refusal."""

    type: str
    text: str | None = None
    refusal: str | None = None


class ChatTurn(msgspec.Struct):
    """One message of `messages`."""

    role: str
    content: str | list[ContentPart] | None = None
    refusal: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None
    prefix: Any = None
    partial: Any = None


class ChatBody(OpenAiBody, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[ChatTurn]
    logprobs: bool | None = None
    top_logprobs: Integer | None = None


class CompletionBody(OpenAiBody, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | list[Any]
    logprobs: Integer | None = None
    best_of: Any = None
