"""The types of the chat service's answers."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from nsedge.web.media_read import MediaTold
from nsedge.web.usage import Clipped


class End(Clipped):
    """How an answer ended."""

    predicted_tokens: int
    stop_reason: str


class ChatAnswer(End, MediaTold):
    """What the assistant said."""

    model: str
    content: str


class LoadedModel(TypedDict):
    """A model that is loaded. requests: those that hold it."""

    model_key: str
    loaded: bool
    kind: str
    context_length: int
    aliases: tuple[str, ...]
    requests: int


class LoadedModels(TypedDict):
    """The models that are loaded."""

    models: list[LoadedModel]


class LoadAnswer(TypedDict):
    """Whether the model is loaded, or why not."""

    loaded: bool
    model_key: str
    status: NotRequired[str]
    error: NotRequired[str]


class UnloadAnswer(TypedDict):
    """Which models left, or why not."""

    unloaded: bool
    models: NotRequired[list[str]]
    error: NotRequired[str]


class Endpoint(TypedDict):
    """An endpoint, with a body as an example."""

    method: str
    path: str
    description: str
    example: dict[str, Any] | None


class Help(TypedDict):
    """What there is to call."""

    name: str
    version: str
    endpoints: list[Endpoint]


class ErrorBody(TypedDict):
    """The chat service's error."""

    detail: str
