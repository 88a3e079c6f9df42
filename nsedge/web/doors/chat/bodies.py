"""The chat service's bodies."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, get_type_hints

import msgspec

from nsedge.web.bodies import ModelName
from nsedge.web.hints import Rules, between, hint
from nsedge.web.request_fields import Fps, Frames
from nsedge.web.sampling_fields import SamplingFields

MAX_TEMPERATURE = 2.0
"""This service's; ours is higher."""


class Image(msgspec.Struct, kw_only=True):
    """A picture of a message, in base64."""

    data_base64: Annotated[str, hint(minLength=1, format="base64")]
    mime_type: Literal["image/jpeg", "image/png", "image/webp"]


class Film(msgspec.Struct, kw_only=True):
    """A film of a message, in base64, or an animation; what it is, its bytes tell."""

    data_base64: Annotated[str, hint(minLength=1, format="base64")]
    mime_type: Literal["video/mp4", "video/quicktime", "video/webm", "image/gif", "image/webp"]
    fps: Fps | None = None
    frames: Frames | None = None


class Turn(msgspec.Struct, kw_only=True):
    """A message."""

    role: Literal["system", "user", "assistant"]
    content: str
    images: list[Image] | None = None
    videos: list[Film] | None = None


def camel_case(name: str) -> str:
    """A field that is `name` at other doors, as this service writes it."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


Config = msgspec.defstruct(
    "Config",
    [
        (camel_case(name), kind, None)
        for name, kind in (
            get_type_hints(SamplingFields, include_extras=True)
            | {"temperature": Annotated[float, between((0, MAX_TEMPERATURE))] | None}
        ).items()
        if name in SamplingFields.__struct_fields__
    ],
    kw_only=True,
    namespace={"__doc__": "The fields of every door, as this service writes them: maxTokens."},
)


class ChatBody(msgspec.Struct, kw_only=True):
    """`POST /chat`, `/chat/regular`, `/chat/vision`, and the stream of each."""

    messages: Annotated[list[Turn], hint(minItems=1)]
    model_key: ModelName | None = None
    config: dict[str, msgspec.Raw] | None = None
    """A `Config`; what other doors call max_tokens may be called so, too."""


class LoadBody(msgspec.Struct, kw_only=True):
    """`POST /models/load`."""

    model_key: ModelName
    exclusive: bool = False


class UnloadBody(msgspec.Struct, kw_only=True):
    """`POST /models/unload`: one model, or all."""

    rules: ClassVar[Rules] = (
        {
            "oneOf": [
                {"required": ["model_key"], "properties": {"model_key": {"type": "string"}}},
                {"required": ["unload_all"], "properties": {"unload_all": {"const": True}}},
            ]
        },
    )
    model_key: ModelName | None = None
    unload_all: bool = False
