"""OpenAI's request bodies as clients write them."""

from __future__ import annotations

from typing import Any

import msgspec

from nsedge.web.bodies import Integer, ModelName
from nsedge.web.request_fields import SamplingFields


class StreamOptions(msgspec.Struct):
    """What else a stream carries."""

    include_usage: bool | None = None


class OpenAiBody(SamplingFields, kw_only=True):
    """What both OpenAI routes share."""

    model: ModelName
    n: Integer | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ContentPart(msgspec.Struct):
    """A part of a message; `text` where `type` is text."""

    type: str
    text: str | None = None


class ChatTurn(msgspec.Struct):
    """One message of `messages`."""

    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: Any = None
    function_call: Any = None


class ChatBody(OpenAiBody, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[ChatTurn]
    logprobs: Any = None
    top_logprobs: Any = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    modalities: Any = None
    audio: Any = None
    web_search_options: Any = None


class CompletionBody(OpenAiBody, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | list[Any]
    logprobs: Any = None
    best_of: Any = None
    echo: Any = None
    suffix: Any = None
