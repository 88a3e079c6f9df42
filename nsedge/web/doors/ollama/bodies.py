"""Ollama's request bodies as clients write them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from nsedge.web.bodies import Integer, ModelName
from nsedge.web.other_fields import OtherFields

Images = list[str] | None
"""Pictures in base64."""
Format = str | dict[str, Any] | None
"""What the answer must look like: `json`, or a JSON schema."""


class OllamaBody(msgspec.Struct, kw_only=True):
    """What the routes that run a model share."""

    model: ModelName
    options: dict[str, msgspec.Raw] | None = None
    keep_alive: str | float | None = None


class WritingBody(OllamaBody, kw_only=True):
    """What the routes that write share."""

    field_names: ClassVar = {"reasoning_effort": "think"}

    stream: bool | None = None
    think: bool | str | None = None
    """Whether the model is to think first, or how hard."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    format: Format = None

    @property
    def constrained_by(self) -> str | None:
        """The field that says what the answer must look like; None where it does not."""
        return "format" if self.format else None


class GenerateBody(WritingBody, kw_only=True):
    """`POST /api/generate`; without a prompt, the model is loaded, or let go."""

    prompt: str | None = None
    system: str | None = None
    suffix: str | None = None
    images: Images = None
    raw: bool | None = None


class CalledFunction(msgspec.Struct):
    """What a call names, and its arguments."""

    name: str
    arguments: dict[str, Any]


class CallBody(msgspec.Struct):
    """A call that the assistant made."""

    function: CalledFunction
    id: str | None = None


class Turn(msgspec.Struct):
    """One message of `messages`. Of a tool, `tool_name` says which; of the assistant, `thinking` is
    what it thought."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: Images = None
    tool_calls: list[CallBody] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ToolBody(msgspec.Struct):
    """One of `tools`."""

    function: dict[str, Any]
    type: str = "function"


class ChatBody(WritingBody, kw_only=True):
    """`POST /api/chat`; without messages, the model is loaded, or let go."""

    messages: list[Turn] | None = None
    tools: list[ToolBody] | None = None


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
    },
    # A prompt that is too long is refused, and no context slides on.
    harmless=frozenset({"truncate", "shift"}),
    refuse_unknown=False,
)
