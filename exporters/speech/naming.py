"""What the inputs and outputs of a speech model's graphs are called, and how its memory lies."""

from __future__ import annotations

import msgspec

from exporters.graph.records import native_form, native_layout
from exporters.model.speech import SpeechShape
from nsedge.bundle.causal_lm import KvLayout
from nsedge.bundle.conditioning import ConditionedIo, MemoryIo, MemoryLayout, MemoryOutput
from nsedge.bundle.speech import ListenerIo

SEGMENTS = "memory_segments"
WEIGHTS = "weights"
DECODER = ConditionedIo(position_ids="position_ids", memory=MemoryIo(rows="memory_rows"))
ENCODER = ListenerIo(memory=MemoryOutput())
NATIVE_MEMORY = MemoryOutput(
    segments=SEGMENTS,
    present_key="present_memory.{layer}.key",
    present_value="present_memory.{layer}.value",
)
NATIVE_ENCODER = ListenerIo(memory=NATIVE_MEMORY)


def kv_layout(shape: SpeechShape) -> KvLayout:
    """The decoder's cache."""
    return KvLayout(
        layers=shape.decoder_layers, heads=shape.decoder_heads, head_dim=shape.head_size
    )


def memory_layout(shape: SpeechShape) -> MemoryLayout:
    """The memory that it attends to."""
    return MemoryLayout(kv=kv_layout(shape), frames=shape.frames)


def native_decoder(kv: KvLayout) -> tuple[ConditionedIo, KvLayout]:
    """Names and cache of the native form of a decoder whose cache is `kv`."""
    io, native_kv = native_form(DECODER, kv)
    fields = msgspec.structs.asdict(io) | {"memory": MemoryIo(segments=SEGMENTS)}
    return ConditionedIo(**fields), native_kv


def native_memory(layout: MemoryLayout) -> MemoryLayout:
    """The native form's memory."""
    return msgspec.structs.replace(layout, kv=native_layout(layout.kv))
