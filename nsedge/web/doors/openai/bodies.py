"""OpenAI's request bodies as clients write them."""

from __future__ import annotations

from typing import Any

import msgspec

from nsedge.web.bodies import Integer, ModelName
from nsedge.web.doors.openai.parts import Place, Recording
from nsedge.web.sampling_fields import SamplingFields


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
    prompt_logprobs: Integer | None = None
    """vLLM's: how likely the prompt's tokens were."""
    return_tokens_as_token_ids: bool | None = None
    """vLLM's: in log-probabilities, tokens go by their ids."""


class ContentPart(msgspec.Struct):
    """A part of a message: the field that `type` names is what it is."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Place | str | None = None
    audio_url: Place | str | None = None
    input_audio: Recording | None = None


class CalledFunction(msgspec.Struct):
    """What a call names, and its arguments as JSON."""

    name: str
    arguments: str = "{}"


class CallBody(msgspec.Struct):
    """A call that the assistant made."""

    function: CalledFunction
    id: str = ""
    type: str = "function"


class ToolBody(msgspec.Struct):
    """One of `tools`."""

    type: str
    function: dict[str, Any] | None = None


class ChatTurn(msgspec.Struct):
    """One message of `messages`."""

    role: str
    content: str | list[ContentPart] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[CallBody] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    function_call: Any = None
    audio: Any = None
    prefix: bool | None = None
    """Of the last message: go on with it (DeepSeek's name; `partial` is Moonshot's)."""
    partial: bool | None = None


class ChatBody(OpenAiBody, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[ChatTurn]
    logprobs: bool | None = None
    top_logprobs: Integer | None = None
    tools: list[ToolBody] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    documents: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables of the template."""
    enable_thinking: bool | None = None
    """The same as among `chat_template_kwargs`."""
    reasoning_effort: str | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    reasoning_format: str | None = None


class TemplateBody(ChatBody, kw_only=True):
    """`POST /apply-template`, llama.cpp's."""

    model: ModelName | None = None  # type: ignore[assignment]


class CompletionBody(OpenAiBody, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | list[Any]
    suffix: str | None = None
    logprobs: Integer | None = None
    echo: bool | None = None
    best_of: Integer | None = None
