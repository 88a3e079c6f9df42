"""The two fp32 graphs of a captioner: pixels in, the decoder's memory of them out; and GPT-2 with
attention to that memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from exporters.conditioned.graphs import DecoderBuilder, EncoderBuilder
from exporters.graph.builder import Floats
from exporters.graph.graph import MICROSOFT, Graph
from exporters.model.caption import CaptionShape
from nsedge.bundle.caption import LookerIo
from nsedge.bundle.conditioning import MemoryOutput
from nsedge.bundle.pictures import CHANNELS

IO = LookerIo(memory=MemoryOutput())
ENCODER = "encoder"
DECODER = "decoder.transformer"
TABLE = f"{DECODER}.wte.weight"
PROJECTION = "enc_to_dec_proj"


def as_linear(weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """The weights, GPT-2's maps [K, N] among them turned to [N, K], as those of all others lie."""
    turned = (".c_attn.weight", ".q_attn.weight", ".c_proj.weight", ".c_fc.weight")
    return {
        name: weight.T if name.startswith(DECODER) and name.endswith(turned) else weight
        for name, weight in weights.items()
    }


def build_encoder(shape: CaptionShape, weights: Mapping[str, Floats]) -> Graph:
    """The graph of weights that are `as_linear`, by their names in the model.

    Raises:
        KeyError: a weight is missing.
    """
    builder = _Encoder(shape, weights)
    rows = builder.embedded()
    for layer in range(shape.encoder.layers):
        rows = builder.layer(f"{ENCODER}.encoder.layer.{layer}", rows)
    rows = builder.normed(f"{ENCODER}.layernorm", rows)
    if shape.projects:
        rows = builder.linear(PROJECTION, rows)
    builder.states(rows, IO.states)
    for layer in range(shape.decoder.layers):
        builder.memory(layer, rows, [f"{DECODER}.h.{layer}.crossattention.c_attn"])
    size = [1, CHANNELS, shape.encoder.side, shape.encoder.side]
    return builder.graph(reads=IO.pixel_values, size=size, states=IO.states)


def build_decoder(shape: CaptionShape, weights: Mapping[str, Floats]) -> Graph:
    """The same of the decoder; raises as `build_encoder` does."""
    builder = _Decoder(shape, weights)
    stream = builder.embedded(TABLE, f"{DECODER}.wpe.weight")
    for layer in range(shape.decoder.layers):
        stream = builder.layer(layer, f"{DECODER}.h.{layer}", stream)
    builder.told(stream, norm=f"{DECODER}.ln_f", table=TABLE)
    return builder.graph()


class _Encoder(EncoderBuilder):
    def __init__(self, shape: CaptionShape, weights: Mapping[str, Floats]) -> None:
        super().__init__(shape.decoder, weights, epsilon=shape.encoder.epsilon)
        self._eye = shape.encoder

    def embedded(self) -> str:
        """Patches through a matrix, tokens of the picture's own before them, and places: [F, D].
        What is beyond whole patches is cut off, as a convolution does."""
        eye, name = self._eye, f"{ENCODER}.embeddings"
        grid, patch = eye.side // eye.patch, eye.patch
        pixels = str(IO.pixel_values)
        if grid * patch < eye.side:
            bounds = [np.array([0, 0]), np.array([grid * patch] * 2), np.array([2, 3])]
            cut = [self.keep(f"cut/{n}", bound) for n, bound in enumerate(bounds)]
            pixels = self.add("Slice", "cut", [pixels, *cut])
        tiled = self.reshape("tiled", pixels, [CHANNELS, grid, patch, grid, patch])
        ordered = self.add("Transpose", "ordered", [tiled], perm=[1, 3, 0, 2, 4])
        flat = self.reshape("patches/rows", ordered, [grid * grid, CHANNELS * patch * patch])
        projection = f"{name}.patch_embeddings.projection"
        kernel = self.source[f"{projection}.weight"]
        weight = self.keep(
            f"{projection}.weight", np.ascontiguousarray(kernel.reshape(eye.hidden, -1).T)
        )
        product = self.add("MatMul", projection, [flat, weight])
        rows = self.add("Add", f"{projection}+bias", [product, self.vector(f"{projection}.bias")])
        kinds = ("cls_token", "distillation_token")[: eye.own]
        own = np.concatenate([self.source[f"{name}.{kind}"][0] for kind in kinds])
        rows = self.add("Concat", "with_own", [self.keep(f"{name}.own", own), rows], axis=0)
        places = self.keep(f"{name}.places", self.source[f"{name}.position_embeddings"][0])
        return self.add("Add", "embedded", [rows, places])

    def layer(self, name: str, stream: str) -> str:
        """One layer: [F, D] to the same."""
        eye = self._eye
        rows = self.normed(f"{name}.layernorm_before", stream)
        parts = [f"{name}.attention.attention.{part}" for part in ("query", "key", "value")]
        packed = self.joint(f"{name}.attention.qkv", rows, parts)
        attended = self.attended(name, packed, width=eye.hidden, heads=eye.heads)
        written = self.linear(f"{name}.attention.output.dense", attended)
        stream = self.add("Add", f"{name}/attended", [stream, written])
        rows = self.normed(f"{name}.layernorm_after", stream)
        inner = self.linear(f"{name}.intermediate.dense", rows)
        inner = self.add(eye.activation, f"{name}/activation", [inner], domain=MICROSOFT)
        written = self.linear(f"{name}.output.dense", inner)
        return self.add("Add", f"{name}/sum", [stream, written])


class _Decoder(DecoderBuilder):
    def __init__(self, shape: CaptionShape, weights: Mapping[str, Floats]) -> None:
        super().__init__(shape.decoder, weights, epsilon=shape.decoder_epsilon)
        self._activation = shape.decoder_activation

    def layer(self, layer: int, name: str, stream: str) -> str:
        """One layer: [B, Q, D] to the same."""
        rows = self.normed(f"{name}.ln_1", stream)
        packed = self.linear(f"{name}.attn.c_attn", rows)
        written = self.linear(f"{name}.attn.c_proj", self.remembered(layer, name, packed))
        stream = self.add("Add", f"{name}/attended", [stream, written])
        rows = self.normed(f"{name}.ln_cross_attn", stream)
        query = self.linear(f"{name}.crossattention.q_attn", rows)
        written = self.linear(f"{name}.crossattention.c_proj", self.about(layer, name, query))
        stream = self.add("Add", f"{name}/seen", [stream, written])
        rows = self.normed(f"{name}.ln_2", stream)
        inner = self.linear(f"{name}.mlp.c_fc", rows)
        inner = self.add(self._activation, f"{name}/activation", [inner], domain=MICROSOFT)
        written = self.linear(f"{name}.mlp.c_proj", inner)
        return self.add("Add", f"{name}/sum", [stream, written])
