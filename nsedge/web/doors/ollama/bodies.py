"""Ollama's request bodies as clients write them."""

from __future__ import annotations

from typing import Any

import msgspec

from nsedge.web.bodies import Integer, ModelName
from nsedge.web.other_fields import OtherFields

Images = list[str] | None
"""Pictures in base64."""
Format = str | dict[str, Any] | None
"""What the answer must look like: `json`, or a JSON schema."""


class OllamaBody(msgspec.Struct, kw_only=True):
    """What the routes that run a model share."""

    model: ModelName
    options: msgspec.Raw = msgspec.Raw()
    keep_alive: str | float | None = None


class GenerateBody(OllamaBody, kw_only=True):
    """`POST /api/generate`; without a prompt, the model is loaded, or let go."""

    prompt: str | None = None
    system: str | None = None
    images: Images = None
    raw: bool | None = None
    format: Format = None
    stream: bool | None = None


class Turn(msgspec.Struct):
    """One message of `messages`."""

    role: str
    content: str | None = None
    images: Images = None
    tool_calls: list[Any] | None = None


class ChatBody(OllamaBody, kw_only=True):
    """`POST /api/chat`; without messages, the model is loaded, or let go."""

    messages: list[Turn] | None = None
    stream: bool | None = None
    format: Format = None


class EmbedBody(OllamaBody, kw_only=True):
    """`POST /api/embed`."""

    input: str | list[str]
    truncate: bool | None = None
    dimensions: Integer | None = None


class EmbeddingsBody(OllamaBody, kw_only=True):
    """`POST /api/embeddings`, which Ollama had before."""

    prompt: str


class ShowBody(msgspec.Struct, kw_only=True):
    """`POST /api/show`: `name` is what `model` was called before."""

    model: ModelName | None = None
    name: ModelName | None = None
    verbose: bool | None = None


OTHERS = OtherFields(
    own={
        "template": ("",),
        "context": ([],),
        "think": (False,),
    },
    # A prompt that is too long is refused, and no context slides on.
    harmless=frozenset({"truncate", "shift"}),
    refuse_unknown=False,
)
