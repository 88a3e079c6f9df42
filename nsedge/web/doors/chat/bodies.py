"""The chat service's bodies."""

from __future__ import annotations

from typing import Literal

import msgspec

from nsedge.web.bodies import ModelName


class Image(msgspec.Struct, kw_only=True):
    """A picture of a message, in base64."""

    data_base64: str
    mime_type: Literal["image/jpeg", "image/png", "image/webp"]


class Turn(msgspec.Struct, kw_only=True):
    """A message."""

    role: Literal["system", "user", "assistant"]
    content: str
    images: list[Image] | None = None


class ChatBody(msgspec.Struct, kw_only=True):
    """`POST /chat`, `/chat/regular`, `/chat/vision`, and the stream of each."""

    messages: list[Turn]
    model_key: ModelName | None = None
    config: dict[str, msgspec.Raw] | None = None
    """The fields of every door, written as this service writes them: maxTokens."""


class LoadBody(msgspec.Struct, kw_only=True):
    """`POST /models/load`."""

    model_key: ModelName
    exclusive: bool = False


class UnloadBody(msgspec.Struct, kw_only=True):
    """`POST /models/unload`: one model, or all."""

    model_key: ModelName | None = None
    unload_all: bool = False
