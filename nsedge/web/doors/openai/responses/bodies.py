"""The request bodies of OpenAI's responses as clients write them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from nsedge.api import ToolChoice
from nsedge.api.sampling import BOUNDS, MAX_LOGPROBS
from nsedge.api.tasks import EFFORTS
from nsedge.api.tools import NAME
from nsedge.web.bodies import Integer, ModelName
from nsedge.web.doors.openai.parts import FilmPlace, Place, Recording, SoundPlace
from nsedge.web.hints import (
    GIVEN,
    NEEDS_TOOLS,
    Film,
    Picture,
    Rules,
    Sound,
    between,
    hint,
    named,
    of_type,
    one_of,
    wants,
)
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import Fps, Frames
from nsedge.web.sampling_fields import SamplingFields

LOGPROBS = "message.output_text.logprobs"
INCLUDED = (LOGPROBS, "reasoning.encrypted_content")
"""What may be asked for beside; thoughts are never encrypted here, but in clear."""
ROLES = ("user", "assistant", "system", "developer")
ToolChoiceField = (
    Annotated[str, one_of(ToolChoice)]
    | Annotated[dict[str, Any], hint(**named(type={"const": "function"}, name={"type": "string"}))]
)


class Part(msgspec.Struct):
    """A part of a message, or of what a tool gave: `input_text`, `output_text`, `refusal`,
    `input_image`, `input_audio` or `input_video`."""

    rules: ClassVar[Rules] = (
        of_type(
            input_text="text",
            output_text="text",
            text="text",
            refusal="refusal",
            input_image="image_url",
            input_audio="input_audio",
            input_video="video_url",
        ),
    )
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Place | Picture | None = None
    audio_url: SoundPlace | Sound | None = None
    input_audio: Recording | None = None
    video_url: FilmPlace | Film | None = None
    fps: Fps | None = None
    frames: Frames | None = None


_TEXT = {"type": "string", "minLength": 1}
_ITEMS = ("message", "function_call", "function_call_output", "reasoning")

_SAID = {"properties": {"type": {"enum": [kind for kind in _ITEMS if kind != "reasoning"]}}}
"""An item that says something to the model."""


class Item(msgspec.Struct):
    """One item of `input`: a message, a call, what a call gave, or what was thought."""

    rules: ClassVar[Rules] = (
        {
            "anyOf": [
                {
                    "required": ["role", "content"],
                    "properties": {"type": {"const": "message"}, "role": GIVEN, "content": GIVEN},
                },
                {
                    "required": ["type", "call_id", "name", "arguments"],
                    "properties": {
                        "type": {"const": "function_call"},
                        "call_id": _TEXT,
                        "name": _TEXT,
                        "arguments": GIVEN,
                    },
                },
                {
                    "required": ["type", "call_id", "output"],
                    "properties": {
                        "type": {"const": "function_call_output"},
                        "call_id": _TEXT,
                        "output": GIVEN,
                    },
                },
                {"required": ["type"], "properties": {"type": {"const": "reasoning"}}},
            ]
        },
    )
    type: Annotated[str, one_of(_ITEMS)] = "message"
    role: Annotated[str, one_of(ROLES)] | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None


class ToolBody(msgspec.Struct):
    """One of `tools`: a function."""

    rules: ClassVar[Rules] = ({"required": ["name"], "properties": {"name": GIVEN}},)
    type: Annotated[str, one_of(("function",))]
    name: Annotated[str, hint(pattern=f"^{NAME}$")] | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(msgspec.Struct):
    """What the answer must look like: `text`, `json_object`, or `json_schema` with a schema."""

    rules: ClassVar[Rules] = (wants("type", {"const": "json_schema"}, schema={"type": "object"}),)
    type: Annotated[str, one_of(("text", "json_object", "json_schema"))]
    schema: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, forbid_unknown_fields=True):
    """`text`."""

    format: TextFormat | None = None
    verbosity: str | None = None


class Reasoning(msgspec.Struct, forbid_unknown_fields=True):
    """`reasoning`: how hard to think. There are no summaries: what is thought is told itself."""

    effort: Annotated[str, one_of(EFFORTS)] | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponsesBody(SamplingFields, kw_only=True):
    """`POST /v1/responses`."""

    rules: ClassVar[Rules] = (
        NEEDS_TOOLS,
        {
            "properties": {
                name: {"type": "null"} for name in ("max_tokens", "max_completion_tokens")
            }
        },
        wants(
            "top_logprobs",
            {"type": "integer", "minimum": 1},
            include={"type": "array", "contains": {"const": LOGPROBS}},
        ),
    )
    field_names: ClassVar = {"reasoning_effort": "reasoning.effort"}

    model: ModelName
    input: Annotated[str, hint(minLength=1)] | Annotated[list[Item], hint(contains=_SAID)]
    instructions: str | None = None
    max_output_tokens: Annotated[Integer, between(BOUNDS["max_tokens"])] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: list[Annotated[str, one_of(INCLUDED)]] | None = None
    top_logprobs: Annotated[Integer, between((0, MAX_LOGPROBS))] | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None

    @property
    def constrained_by(self) -> str | None:
        """The field that says what the answer must look like; None where none does."""
        form = None if self.text is None else self.text.format
        return super().constrained_by if form is None or form.type == "text" else "text.format"


OTHERS = OtherFields(
    own={
        "background": (False,),
        "background_options": (),
        "conversation": (),
        "prompt": (),
        "image": (),
        "max_tool_calls": (),
        "truncation": ("disabled",),
        "context_management": ([],),
        "access_programs": ([],),
    },
    harmless=frozenset({"stream_options"}),
)
