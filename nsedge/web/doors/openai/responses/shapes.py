"""The types of OpenAI's responses."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from nsedge.web.logprobs import TokenObject
from nsedge.web.media_read import MediaTold


class TextToken(TokenObject):
    """A token, and the likeliest in its place."""

    top_logprobs: list[TokenObject]


class TextPart(TypedDict):
    """A part of what was said or thought; only what was said has annotations and logprobs."""

    type: str
    text: str
    annotations: NotRequired[list[Any]]
    logprobs: NotRequired[list[TextToken]]


class OutputItem(TypedDict):
    """An item of the output; which fields it has follows from `type`: message, reasoning or
    function_call."""

    id: str
    type: str
    status: str
    role: NotRequired[str]
    content: NotRequired[list[TextPart]]
    summary: NotRequired[list[Any]]
    name: NotRequired[str]
    call_id: NotRequired[str]
    arguments: NotRequired[str]


class CachedTokens(TypedDict):
    """Of the tokens that were read, those that were ready."""

    cached_tokens: int


class ThoughtTokens(TypedDict):
    """Of the tokens that were written, those that were thought."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """Tokens that were read and written."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ThoughtTokens
    total_tokens: int


class ResponseError(TypedDict):
    """Why a response broke off."""

    code: str
    message: str
    type: str
    param: str | None


class IncompleteDetails(TypedDict):
    """Why a response is not whole."""

    reason: str


class ReasoningObject(TypedDict):
    """How hard the model was to think."""

    effort: str | None
    summary: None


class TextObject(TypedDict):
    """What the text was to look like."""

    format: dict[str, Any]


class ResponseObject(MediaTold):
    """A response. created_at: seconds since the Unix epoch."""

    id: str
    object: str
    created_at: int
    status: str
    background: bool
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: ReasoningObject
    store: bool
    temperature: float | None
    text: TextObject
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: str
    usage: ResponseUsage | None
    user: str | None


class InputItems(TypedDict):
    """What a response was asked with, all in one page."""

    object: str
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(TypedDict):
    """A response that is kept no more."""

    id: str
    object: str
    deleted: bool
