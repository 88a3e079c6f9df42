"""Request bodies as clients write them; unknown fields are ignored."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from nsedge.errors import BadMessage, InvalidParameter, NsedgeError

Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]


class SamplingFields(msgspec.Struct, kw_only=True):
    """OpenAI's sampling fields, and ours beside them. None is the bundle's default."""

    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[TokenId, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: Integer | None = None
    max_completion_tokens: Integer | None = None
    top_k: Integer | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Integer | None = None
    ignore_eos: bool | None = None
    clip_max_tokens: bool | None = None
    prompt_lookup: bool | None = None
    priority: str | Integer | None = None
    """A class by name; or, as vLLM has it, a number, of which the lower goes first."""
    deadline_s: float | None = None
    keep_alive: str | float | None = None
    """How long the model stays in memory unused from then on: seconds, `5m`, `forever`, `now`."""


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


class GenerateBody(SamplingFields, kw_only=True):
    """`POST /api/generate` and `/api/generate/stream`."""

    text: str
    model: ModelName | None = None
    raw: bool | None = None
    """Continue the text as it stands, without the chat template."""


class LoadBody(msgspec.Struct, kw_only=True):
    """`POST /api/models/load`."""

    model: ModelName
    priority: str | Integer | None = None
    keep_alive: str | float | None = None
    pin: bool | None = None
    exclusive: bool = False
    wait: bool = True


class PreloadBody(msgspec.Struct, kw_only=True):
    """`POST /api/models/preload`."""

    models: Annotated[list[ModelName], Meta(min_length=1, max_length=64)]
    priority: str | Integer | None = None


class UnloadBody(msgspec.Struct, kw_only=True):
    """`POST /api/models/unload`: one model, or all."""

    model: ModelName | None = None
    all: bool = False
    drain_s: float | None = None


class ReloadBody(msgspec.Struct, kw_only=True):
    """`POST /api/models/reload`."""

    model: ModelName


class AliasBody(msgspec.Struct, kw_only=True):
    """`POST /api/models/alias`; without a model the alias is taken away."""

    alias: ModelName
    model: ModelName | None = None


Body = TypeVar("Body", bound=msgspec.Struct)


def decode(raw: bytes, kind: type[Body]) -> Body:
    """The body of a request.

    Raises:
        BadMessage: where it is not JSON in UTF-8, or is nested without measure.
        InvalidParameter: where a field is missing or ill-typed; `param` names it.
    """
    try:
        return msgspec.json.decode(raw.decode(), type=kind)
    except UnicodeDecodeError as error:
        raise BadMessage(f"the body is not UTF-8: {error.reason} at {error.start}") from error
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from error
    except msgspec.DecodeError as error:
        raise BadMessage(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise BadMessage("the body is not usable: its JSON is nested too deep") from error


def _misfit(complaint: str) -> NsedgeError:
    what, _, where = complaint.partition(" - at ")
    if path := re.search(r"\$\.?([^`]*)", where):
        return InvalidParameter(f"{path[1]}: {what}", param=path[1] or None)
    if missing := re.search(r"required field `(\w+)`", what):
        return InvalidParameter(f"{missing[1]} is missing", param=missing[1])
    return BadMessage(f"the body does not fit: {what}")
