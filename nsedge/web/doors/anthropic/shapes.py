"""The types of Anthropic's answers."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from nsedge.web.media_read import MediaTold


class BlockObject(TypedDict):
    """A block of an answer; which fields it has follows from `type`: text, thinking or tool_use."""

    type: str
    text: NotRequired[str]
    thinking: NotRequired[str]
    signature: NotRequired[str]
    id: NotRequired[str]
    name: NotRequired[str]
    input: NotRequired[dict[str, Any]]


class UsageObject(TypedDict):
    """Tokens that were read and written; those that were ready in the cache stand apart."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class Stopped(TypedDict):
    """How an answer ended."""

    stop_reason: str | None
    stop_sequence: str | None


class MessageObject(Stopped, MediaTold):
    """The answer of `/v1/messages`."""

    id: str
    type: str
    role: str
    model: str
    content: list[BlockObject]
    usage: UsageObject


class TokenCount(TypedDict):
    """How long a prompt is."""

    input_tokens: int


class ModelObject(TypedDict):
    """A model. created_at: RFC 3339."""

    type: str
    id: str
    display_name: str
    created_at: str
    lifecycle: str
    max_input_tokens: int | None
    max_tokens: int | None


class ModelPage(TypedDict):
    """A page of models."""

    data: list[ModelObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


class ErrorObject(TypedDict):
    """What went wrong; `code` is of docs/errors.md."""

    type: str
    message: str
    code: str


class ErrorBody(TypedDict):
    """Anthropic's error object."""

    type: str
    error: ErrorObject
    request_id: str | None
