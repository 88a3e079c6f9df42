"""Anthropic's request bodies as clients write them."""

from __future__ import annotations

from typing import Any

import msgspec

from nsedge.web.bodies import Integer, ModelName
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import SchedulingBody


class Source(msgspec.Struct):
    """Where a picture is: `data` in base64 where `type` is base64."""

    type: str
    media_type: str | None = None
    data: str | None = None


class Block(msgspec.Struct):
    """A block of a message; which fields count follows from `type`."""

    type: str
    text: str | None = None
    source: Source | None = None


class Turn(msgspec.Struct):
    """One message of `messages`."""

    role: str
    content: str | list[Block]


class PromptBody(SchedulingBody, kw_only=True):
    """What is read before an answer: `POST /v1/messages/count_tokens` has no more."""

    model: ModelName
    messages: list[Turn]
    system: str | list[Block] | None = None


class MessagesBody(PromptBody, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: Integer
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_k: Integer | None = None
    top_p: float | None = None


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tool_choice": ({"type": "auto"}, {"type": "none"}),
    "thinking": ({"type": "disabled"}, {"type": "adaptive"}),
    "output_config": ({}, {"effort": "high"}),
    "output_format": (),
    "mcp_servers": ([],),
    "context_management": ({}, {"edits": []}),
    "container": (),
}
OTHERS = OtherFields(
    own=_NEUTRAL,
    harmless=frozenset(
        {
            "inference_geo",
            "speed",
            "cache_control",
            "diagnostics",
            "user_profile_id",
            "workspace_id",
        }
    ),
)
"""As at Anthropic, a field that nobody knows is refused."""
COUNT_OTHERS = OtherFields(
    own=_NEUTRAL,
    harmless=OTHERS.harmless
    | {"max_tokens", "stop_sequences", "stream", "temperature", "top_k", "top_p"},
)
