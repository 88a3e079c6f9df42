"""Ollama's request bodies as clients write them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from nsedge.api import Role
from nsedge.api.inputs import MAX_INPUTS
from nsedge.api.tasks import EFFORTS, MAX_DIMENSIONS
from nsedge.web.bodies import Integer, ModelName
from nsedge.web.hints import FUNCTION, GIVEN, Picture, Rules, between, hint, one_of, wants
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import KeepAlive

Images = list[Picture] | None
"""Pictures in base64."""
Format = Annotated[str, one_of(("json", ""))] | dict[str, Any] | None
"""What the answer must look like: `json`, or a JSON schema."""


class OllamaBody(msgspec.Struct, kw_only=True):
    """What the routes that run a model share."""

    model: ModelName
    options: dict[str, msgspec.Raw] | None = None
    keep_alive: KeepAlive | None = None


class WritingBody(OllamaBody, kw_only=True):
    """What the routes that write share."""

    field_names: ClassVar = {"reasoning_effort": "think"}

    stream: bool | None = None
    think: bool | Annotated[str, one_of(EFFORTS)] | None = None
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

    rules: ClassVar[Rules] = (
        wants("tool_call_id", GIVEN, role={"const": "tool"}),
        wants("tool_calls", {"type": "array", "minItems": 1}, role={"const": "assistant"}),
        wants("thinking", {"type": "string", "minLength": 1}, role={"const": "assistant"}),
    )
    role: Annotated[str, one_of(Role)]
    content: str | None = None
    thinking: str | None = None
    images: Images = None
    tool_calls: list[CallBody] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ToolBody(msgspec.Struct):
    """One of `tools`."""

    function: Annotated[dict[str, Any], hint(**FUNCTION)]
    type: Annotated[str, one_of(("function",))] = "function"


class ChatBody(WritingBody, kw_only=True):
    """`POST /api/chat`; without messages, the model is loaded, or let go."""

    messages: list[Turn] | None = None
    tools: list[ToolBody] | None = None


class EmbedBody(OllamaBody, kw_only=True):
    """`POST /api/embed`."""

    input: (
        Annotated[str, hint(minLength=1)]
        | Annotated[list[Annotated[str, hint(minLength=1)]], hint(minItems=1, maxItems=MAX_INPUTS)]
    )
    truncate: bool | None = None
    dimensions: Annotated[Integer, between((1, MAX_DIMENSIONS))] | None = None


class EmbeddingsBody(OllamaBody, kw_only=True):
    """`POST /api/embeddings`, which Ollama had before."""

    prompt: Annotated[str, hint(minLength=1)]


class ShowBody(msgspec.Struct, kw_only=True):
    """`POST /api/show`: `name` is what `model` was called before."""

    rules: ClassVar[Rules] = (
        {
            "anyOf": [
                {"required": ["model"], "properties": {"model": GIVEN}},
                {"required": ["name"], "properties": {"name": GIVEN}},
            ]
        },
    )
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
