"""The request bodies of OpenAI's responses as clients write them."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from nsedge.web.bodies import Integer, ModelName
from nsedge.web.doors.openai.parts import Place, Recording
from nsedge.web.other_fields import OtherFields
from nsedge.web.sampling_fields import SamplingFields


class Part(msgspec.Struct):
    """A part of a message, or of what a tool gave: `input_text`, `output_text`, `refusal`,
    `input_image` or `input_audio`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Place | str | None = None
    audio_url: Place | str | None = None
    input_audio: Recording | None = None


class Item(msgspec.Struct):
    """One item of `input`: a message, a call, what a call gave, or what was thought."""

    type: str = "message"
    role: str | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None


class ToolBody(msgspec.Struct):
    """One of `tools`: a function."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(msgspec.Struct):
    """What the answer must look like: `text`, `json_object`, or `json_schema` with a schema."""

    type: str
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

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponsesBody(SamplingFields, kw_only=True):
    """`POST /v1/responses`."""

    field_names: ClassVar = {"reasoning_effort": "reasoning.effort"}

    model: ModelName
    input: str | list[Item]
    instructions: str | None = None
    max_output_tokens: Integer | None = None
    tools: list[ToolBody] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    top_logprobs: Integer | None = None
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
