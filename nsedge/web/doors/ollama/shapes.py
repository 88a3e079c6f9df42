"""The types of Ollama's answers. Durations are in nanoseconds, moments in RFC 3339."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from nsedge.web.logprobs import TokenObject
from nsedge.web.media_read import MediaTold
from nsedge.web.usage import Clipped


class CalledFunction(TypedDict):
    """What a call names, and its arguments."""

    name: str
    arguments: dict[str, Any]


class CallObject(TypedDict):
    """A call of a tool."""

    id: str
    function: CalledFunction


class MessageObject(TypedDict):
    """What the assistant said, thought and called."""

    role: str
    content: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[CallObject]]


class Token(TokenObject):
    """A token, and the likeliest in its place."""

    top_logprobs: list[TokenObject]


class Answer(Clipped, MediaTold):
    """What answers of both routes have; the durations of one that only loads or lets go of a model
    are not told."""

    model: str
    created_at: str
    done: bool
    done_reason: str
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]
    prompt_eval_duration: NotRequired[int]
    eval_count: NotRequired[int]
    eval_duration: NotRequired[int]
    logprobs: NotRequired[list[Token]]


class GenerateAnswer(Answer):
    """The answer of `/api/generate`."""

    response: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[CallObject]]


class ChatAnswer(Answer):
    """The answer of `/api/chat`."""

    message: MessageObject


class EmbedAnswer(TypedDict):
    """A vector for each input, in their order."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class EmbeddingAnswer(TypedDict):
    """The vector of a prompt."""

    embedding: list[float]


class Details(TypedDict):
    """What kind of model it is."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class CommonTag(TypedDict):
    """What is told of every model. size: in bytes."""

    name: str
    model: str
    digest: str
    details: Details


class Tag(CommonTag):
    """A model that there is."""

    size: int
    modified_at: str


class Tags(TypedDict):
    """Every model that there is."""

    models: list[Tag]


class RunningTag(CommonTag):
    """A model in memory."""

    size: int
    expires_at: str
    size_vram: int
    context_length: int


class RunningTags(TypedDict):
    """The models in memory."""

    models: list[RunningTag]


class Shown(TypedDict):
    """What is known of a model."""

    modelfile: str
    license: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, str | int | float]
    capabilities: list[str]
    modified_at: str


class VersionAnswer(TypedDict):
    """The version of Ollama whose API this is, and our own."""

    version: str
    nsedge: str


class ErrorBody(TypedDict):
    """Ollama's error object."""

    error: str
