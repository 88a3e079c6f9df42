"""What the inputs and outputs of a decoder with a memory are called, and how that lies."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from exporters.graph.records import native_form, native_layout
from exporters.model.conditioned import DecoderShape
from nsedge.bundle.causal_lm import KvLayout
from nsedge.bundle.conditioning import ConditionedIo, MemoryIo, MemoryLayout, MemoryOutput

SEGMENTS = "memory_segments"
DECODER = ConditionedIo(position_ids="position_ids", memory=MemoryIo(rows="memory_rows"))
MEMORY = MemoryOutput()
NATIVE_MEMORY = MemoryOutput(
    segments=SEGMENTS,
    present_key="present_memory.{layer}.key",
    present_value="present_memory.{layer}.value",
)


@dataclass(frozen=True, kw_only=True)
class DecoderForm:
    """How a form of the graphs is run."""

    io: ConditionedIo
    kv: KvLayout
    memory: MemoryLayout
    written: MemoryOutput
    """What the encoder's graph calls the memory."""


def form_of(shape: DecoderShape, *, native: bool) -> DecoderForm:
    """The form in standard operators, or on the daemon's own."""
    if not native:
        return DecoderForm(io=DECODER, kv=shape.kv, memory=shape.memory, written=MEMORY)
    io, kv = native_form(DECODER, shape.kv)
    fields = msgspec.structs.asdict(io) | {"memory": MemoryIo(segments=SEGMENTS)}
    memory = msgspec.structs.replace(shape.memory, kv=native_layout(shape.kv))
    return DecoderForm(io=ConditionedIo(**fields), kv=kv, memory=memory, written=NATIVE_MEMORY)
