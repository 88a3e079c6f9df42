"""Anthropic's request bodies as clients write them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from nsedge.api.tasks import EFFORTS
from nsedge.api.tools import NAME
from nsedge.web.bodies import Integer, ModelName
from nsedge.web.hints import GIVEN, Rules, allows, hint, named, not_all, of_type, one_of, wants
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import SchedulingBody
from nsedge.web.sampling_fields import Stops, TopK, bounds_of

PICTURE_TYPE = "image/[a-z0-9][a-z0-9.+-]{0,62}"


class Source(msgspec.Struct):
    """Where a picture is: `data` in base64 where `type` is base64, `url` where it is url."""

    rules: ClassVar[Rules] = (
        {
            "anyOf": [
                named(
                    type={"const": "base64"},
                    media_type={"type": "string", "pattern": f"^{PICTURE_TYPE}$"},
                    data={"type": "string", "format": "base64", "minLength": 1},
                ),
                named(type={"const": "url"}, url={"type": "string", "format": "uri"}),
            ]
        },
    )
    type: Annotated[str, one_of(("base64", "url"))]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


BLOCKS = ("text", "image", "thinking", "redacted_thinking", "tool_use", "tool_result")
_BLOCKS_OF = {
    "user": ["text", "image", "tool_result"],
    "assistant": ["text", "image", "thinking", "redacted_thinking", "tool_use"],
    "system": ["text", "image"],
}
"""Role -> what its messages hold."""
_TEXTS = {"items": named(type={"const": "text"}, text={"type": "string"})}


class Block(msgspec.Struct):
    """A block of a message; which fields count follows from `type`."""

    rules: ClassVar[Rules] = (
        of_type(
            text="text",
            image="source",
            thinking="type",
            redacted_thinking="type",
            tool_use="id",
            tool_result="tool_use_id",
        ),
        wants("type", {"const": "tool_use"}, name={"type": "string"}),
        allows("type", {"const": "tool_result"}, content=_TEXTS),
    )
    type: Annotated[str, one_of(BLOCKS)]
    text: str | None = None
    source: Source | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None
    """Of a tool's result."""


class Turn(msgspec.Struct):
    """One message of `messages`."""

    rules: ClassVar[Rules] = tuple(
        allows(
            "role", {"const": role}, content={"items": {"properties": {"type": {"enum": types}}}}
        )
        for role, types in _BLOCKS_OF.items()
    )
    role: Annotated[str, one_of(("user", "assistant", "system"))]
    content: Annotated[str, hint(minLength=1)] | Annotated[list[Block], hint(minItems=1)]


class ToolBody(msgspec.Struct):
    """One of `tools`; those of Anthropic's own have a `type` that is not custom."""

    name: Annotated[str, hint(pattern=f"^{NAME}$")]
    input_schema: dict[str, Any] | None = None
    description: str | None = None
    type: Annotated[str, one_of(("custom",))] | None = None
    strict: bool | None = None


class ChoiceBody(msgspec.Struct):
    """`tool_choice`."""

    rules: ClassVar[Rules] = (wants("type", {"const": "tool"}, name={"type": "string"}),)
    type: Annotated[str, one_of(("auto", "any", "tool", "none"))]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    """`thinking`."""

    type: Annotated[str, one_of(("enabled", "disabled", "adaptive"))]
    budget_tokens: Integer | None = None
    """Left out, and told: nothing bounds thoughts but `max_tokens`."""


class OutputFormat(msgspec.Struct):
    """What the answer must look like."""

    rules: ClassVar[Rules] = (named(schema={"type": "object"}),)
    type: Annotated[str, one_of(("json_schema",))]
    schema: dict[str, Any] | None = None


class OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    """`output_config`."""

    effort: Annotated[str, one_of(EFFORTS)] | None = None
    format: OutputFormat | None = None


class PromptBody(SchedulingBody, kw_only=True):
    """What is read before an answer: `POST /v1/messages/count_tokens` has no more."""

    rules: ClassVar[Rules] = (
        wants(
            "tool_choice",
            {"type": "object", "properties": {"type": {"enum": ["any", "tool"]}}},
            tools={"type": "array", "minItems": 1},
        ),
        not_all(output_format=GIVEN, output_config=named(format=GIVEN)),
    )
    field_names: ClassVar = {"reasoning_effort": "output_config.effort"}

    model: ModelName
    messages: Annotated[list[Turn], hint(minItems=1)]
    system: str | Annotated[list[Block], hint(allOf=[_TEXTS])] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: ChoiceBody | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """What `output_config.format` was called before."""

    @property
    def constrained_by(self) -> str | None:
        """The field that says what the answer must look like; None where none does."""
        if self.output_format is not None:
            return "output_format"
        given = self.output_config is not None and self.output_config.format is not None
        return "output_config.format" if given else None


class MessagesBody(PromptBody, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: Annotated[Integer, bounds_of("max_tokens")]
    stop_sequences: Stops | None = None
    stream: bool | None = None
    temperature: Annotated[float, bounds_of("temperature")] | None = None
    top_k: TopK | None = None
    top_p: Annotated[float, bounds_of("top_p")] | None = None


_NEUTRAL: dict[str, tuple[Any, ...]] = {
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
