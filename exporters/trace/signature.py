"""What a decoder's graph takes and gives, and an example of it to trace with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from exporters.trace.decoder_trace import Pairs
from nsedge.bundle.causal_lm import GraphIo, KvLayout

RAW_FILE = "model.onnx"
QUERIES, PAST, CAPACITY = 5, 7, 24
ROWS = 3
"""Of media, in the place of the first tokens."""

Axes = dict[str, dict[int, str]]
"""By name of an input or output, which of its axes are of any size, and what that is called."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The names of `io`, in the order of `DecoderTrace.forward`, for a cache as `kv` has it."""

    io: GraphIo
    kv: KvLayout
    hidden: int = 0
    """Numbers of an embedding, where rows of media may stand for tokens."""

    def inputs(self) -> Axes:
        """In the order of `example`."""
        io = self.io
        named: Axes = {io.input_ids: {0: "batch", 1: "queries"}}
        named[io.seqlens_k] = {0: "batch"}
        named[io.total_sequence_length] = {}
        named[io.kept_positions] = {0: "kept"}
        named |= self._cache(io.past_key, io.past_value)
        if io.position_ids is not None:
            first = 0 if io.position_axes == 1 else 1
            named[io.position_ids] = {first: "batch", first + 1: "queries"}
        if io.media is not None:
            named |= {io.media.embeds: {0: "rows"}, io.media.positions: {0: "rows"}}
        return named

    def outputs(self) -> Axes:
        """In the order in which `DecoderTrace.forward` gives them."""
        io = self.io
        logits: Axes = {io.logits: {0: "batch", 1: "kept"}}
        return logits | self._cache(io.present_key, io.present_value)

    def example(self, vocabulary: int) -> dict[str, Any]:
        """Arguments of `DecoderTrace.forward`: five new tokens of one row after seven old ones.

        Every axis has a size of its own.
        """
        made: dict[str, Any] = {
            "input_ids": torch.arange(QUERIES)[None] % vocabulary,
            "seqlens_k": torch.tensor([PAST + QUERIES - 1], dtype=torch.int32),
            "total_sequence_length": torch.tensor(PAST + QUERIES, dtype=torch.int32),
            "logits_to_keep": torch.arange(QUERIES - 1),
            "past_key_values": self._example_cache(),
        }
        if self.io.position_ids is not None:
            axes = self.io.position_axes
            shape = (1, QUERIES) if axes == 1 else (axes, 1, QUERIES)
            made["position_ids"] = torch.arange(PAST, PAST + QUERIES).expand(shape).clone()
        if self.io.media is not None:
            made["media_embeds"] = torch.zeros(ROWS, self.hidden)
            made["media_positions"] = torch.tensor([(0, place) for place in range(ROWS)])
        return made

    def _cache(self, key: str, value: str) -> Axes:
        axes = {0: "batch", 2: "capacity"}
        names = [n.format(layer=i) for i in range(self.kv.layers) for n in (key, value)]
        return {name: dict(axes) for name in names}

    def _example_cache(self) -> Pairs:
        shape = (1, self.kv.heads, CAPACITY, self.kv.head_dim)
        return [(torch.zeros(shape), torch.zeros(shape)) for _ in range(self.kv.layers)]
