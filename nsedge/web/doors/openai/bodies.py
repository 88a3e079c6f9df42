"""OpenAI's request bodies as clients write them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from nsedge.api import ToolChoice
from nsedge.api.sampling import BOUNDS, MAX_LOGPROBS
from nsedge.api.tasks import EFFORTS
from nsedge.web.bodies import Integer, ModelName
from nsedge.web.doors.openai.parts import FilmPlace, Place, Recording, SoundPlace
from nsedge.web.hints import (
    FUNCTION,
    GIVEN,
    NEEDS_TOOLS,
    Film,
    Picture,
    Rules,
    Sound,
    allows,
    between,
    hint,
    named,
    not_all,
    of_type,
    one_of,
    wants,
)
from nsedge.web.prompt_fields import TEXTS, PromptField
from nsedge.web.request_fields import Fps, Frames
from nsedge.web.sampling_fields import SamplingFields

Count = Annotated[Integer, between(BOUNDS["n"])]
Likeliest = Annotated[Integer, between((0, MAX_LOGPROBS))]
"""Of how many tokens in a place the log-probabilities are told."""
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
TRUE = {"const": True}
ABSENT = hint(enum=[None])
_NAMED = named(name={"type": "string"})
_ALLOWED = named(
    mode={"enum": ["auto", "required"]},
    tools={"type": "array", "items": named(type={"const": "function"}, function=_NAMED)},
)
ToolChoiceField = (
    Annotated[str, one_of(ToolChoice)]
    | Annotated[
        dict[str, Any],
        hint(
            anyOf=[
                named(type={"const": "function"}, function=_NAMED),
                named(type={"const": "allowed_tools"}, allowed_tools=_ALLOWED),
            ]
        ),
    ]
)


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What else a stream carries."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Accepted; nothing is ever padded."""


class OpenAiBody(SamplingFields, kw_only=True):
    """What both OpenAI routes share."""

    rules: ClassVar[Rules] = (not_all(prompt_logprobs=GIVEN, stream=TRUE),)
    model: ModelName
    n: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Any = None
    """A boolean of a chat, a number of a completion."""
    prompt_logprobs: Likeliest | None = None
    """vLLM's: how likely the prompt's tokens were."""
    return_tokens_as_token_ids: bool | None = None
    """vLLM's: in log-probabilities, tokens go by their ids."""


class ContentPart(msgspec.Struct):
    """A part of a message: the field that `type` names is what it is."""

    rules: ClassVar[Rules] = (
        of_type(
            text="text",
            refusal="refusal",
            image_url="image_url",
            input_image="image_url",
            audio_url="audio_url",
            input_audio="input_audio",
            video_url="video_url",
        ),
    )
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Place | Picture | None = None
    audio_url: SoundPlace | Sound | None = None
    input_audio: Recording | None = None
    video_url: FilmPlace | Film | None = None
    fps: Fps | None = None
    """Of a film, how many frames a second are looked at."""
    frames: Frames | None = None
    """Of a film, how many at most; without `fps`, spread over all of it."""


class CalledFunction(msgspec.Struct):
    """What a call names, and its arguments as JSON."""

    name: str
    arguments: str = "{}"


class CallBody(msgspec.Struct):
    """A call that the assistant made."""

    function: CalledFunction
    id: str = ""
    type: Annotated[str, one_of(("function",))] = "function"


class ToolBody(msgspec.Struct):
    """One of `tools`."""

    rules: ClassVar[Rules] = ({"required": ["function"], "properties": {"function": GIVEN}},)
    type: Annotated[str, one_of(("function",))]
    function: Annotated[dict[str, Any], hint(**FUNCTION)] | None = None


_SAID = {
    "anyOf": [
        {"required": ["content"], "properties": {"content": GIVEN}},
        {
            "required": ["refusal"],
            "properties": {"refusal": {"type": "string"}, "role": {"const": "assistant"}},
        },
        {
            "required": ["tool_calls"],
            "properties": {"tool_calls": {"type": "array", "minItems": 1}},
        },
    ]
}
"""What a message must have."""
ONLY_TOOLS = wants("tool_call_id", GIVEN, role={"enum": ["tool", "function"]})
ONLY_ASSISTANT = tuple(
    wants(name, when, role={"const": "assistant"})
    for name, when in (
        ("tool_calls", {"type": "array", "minItems": 1}),
        ("reasoning_content", {"type": "string", "minLength": 1}),
        ("refusal", {"type": "string"}),
    )
)
_REFUSED = {"items": {"properties": {"type": {"not": {"const": "refusal"}}}}}
ONLY_ASSISTANT_REFUSES = allows(
    "role", {"enum": [role for role in ROLES if role != "assistant"]}, content=_REFUSED
)


class ChatTurn(msgspec.Struct):
    """One message of `messages`."""

    rules: ClassVar[Rules] = (_SAID, ONLY_TOOLS, *ONLY_ASSISTANT, ONLY_ASSISTANT_REFUSES)
    role: Annotated[str, one_of(ROLES)]
    content: str | list[ContentPart] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[CallBody] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    function_call: Annotated[Any, ABSENT] = None
    audio: Annotated[Any, ABSENT] = None
    prefix: bool | None = None
    """Of the last message: go on with it (DeepSeek's name; `partial` is Moonshot's)."""
    partial: bool | None = None


class ChatBody(OpenAiBody, kw_only=True):
    """`POST /v1/chat/completions`."""

    rules: ClassVar[Rules] = (
        NEEDS_TOOLS,
        wants("top_logprobs", {"type": "integer", "minimum": 1}, logprobs=TRUE),
        not_all(continue_final_message=TRUE, add_generation_prompt=TRUE),
    )
    messages: Annotated[list[ChatTurn], hint(minItems=1)]
    logprobs: bool | None = None
    top_logprobs: Likeliest | None = None
    tools: list[ToolBody] | None = None
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: bool | None = None
    documents: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables of the template."""
    enable_thinking: bool | None = None
    """The same as among `chat_template_kwargs`."""
    reasoning_effort: Annotated[str, one_of(EFFORTS)] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    reasoning_format: Annotated[str, one_of(("none", "auto", "deepseek"))] | None = None


class TemplateBody(ChatBody, kw_only=True):
    """`POST /apply-template`, llama.cpp's."""

    model: ModelName | None = None  # type: ignore[assignment]


class CompletionBody(OpenAiBody, kw_only=True):
    """`POST /v1/completions`."""

    rules: ClassVar[Rules] = (
        not_all(echo=TRUE, suffix={"type": "string", "minLength": 1}),
        wants("echo", TRUE, prompt=TEXTS),
    )
    prompt: PromptField
    suffix: str | None = None
    logprobs: Likeliest | None = None
    echo: bool | None = None
    best_of: Count | None = None
