"""The fp32 graph of Whisper's encoder: features of a window in, the decoder's memory of it out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from exporters.conditioned.graphs import EncoderBuilder
from exporters.graph.builder import Floats
from exporters.graph.graph import MICROSOFT, Graph
from exporters.model.speech import SpeechShape
from exporters.speech.naming import ENCODER as IO

EPSILON = 1e-5
"""Of Whisper's norms."""
PREFIX = "model.encoder"
CONVOLUTION = "model.encoder.conv1.weight"
"""What stays in float32: it takes a twentieth of the time."""
PARTS = ("weight", "bias")


def build_encoder(shape: SpeechShape, weights: Mapping[str, Floats]) -> Graph:
    """The graph of `weights`, by their names in the model.

    Raises:
        KeyError: a weight is missing.
    """
    builder = _Builder(shape, weights)
    rows = builder.embedded()
    for layer in range(shape.encoder_layers):
        rows = builder.layer(f"{PREFIX}.layers.{layer}", rows)
    rows = builder.normed(f"{PREFIX}.layer_norm", rows)
    builder.states(rows, IO.states)
    for layer in range(shape.decoder_layers):
        of_layer = f"model.decoder.layers.{layer}.encoder_attn"
        builder.memory(layer, rows, [f"{of_layer}.{part}_proj" for part in "kv"])
    size = [1, shape.bins, 2 * shape.frames]
    return builder.graph(reads=IO.features, size=size, states=IO.states)


class _Builder(EncoderBuilder):
    def __init__(self, shape: SpeechShape, weights: Mapping[str, Floats]) -> None:
        super().__init__(shape.decoder, weights, epsilon=EPSILON)
        self._shape = shape

    def embedded(self) -> str:
        """Two convolutions, and positions: [F, D]."""
        rows = self.add("Gelu", "conv1/gelu", [self._threes(self._first())], domain=MICROSOFT)
        weight = self.source[f"{PREFIX}.conv2.weight"]
        matrix = weight.transpose(2, 1, 0).reshape(-1, len(weight))
        kept = self.keep("conv2.weight", np.ascontiguousarray(matrix))
        product = self.add("MatMul", "conv2", [rows, kept])
        value = self.add("Add", "conv2+bias", [product, self.vector(f"{PREFIX}.conv2.bias")])
        value = self.add("Gelu", "conv2/gelu", [value], domain=MICROSOFT)
        places = self.vector(f"{PREFIX}.embed_positions.weight")
        return self.add("Add", "embedded", [value, places])

    def _first(self) -> str:
        """The first convolution, which keeps the number of frames: [1, 2 F, D]."""
        inputs = [IO.features, *(self.vector(f"{PREFIX}.conv1.{part}") for part in PARTS)]
        made = self.add(
            "Conv", "conv1", inputs, kernel_shape=[3], strides=[1], pads=[1, 1], dilations=[1]
        )
        return self.add("Transpose", "frames", [made], perm=[0, 2, 1])

    def _threes(self, frames: str) -> str:
        """What the second convolution is a product of, [F, 3 D]: of each frame it gives the three
        that it reads, 2 f - 1 to 2 f + 1, and zeros before the first."""
        width = self._shape.width
        pairs = self.reshape("pairs", frames, [-1, 2 * width])
        bounds = {"starts": [0, width], "ends": [-1, 2 * width], "axes": [0, 1]}
        cut = [self.keep(f"before/{name}", np.array(value)) for name, value in bounds.items()]
        odd = self.add("Slice", "before/odd", [pairs, *cut])
        nothing = self.keep("before/nothing", np.zeros((1, width), np.float32))
        before = self.add("Concat", "before", [nothing, odd], axis=0)
        return self.add("Concat", "threes", [before, pairs], axis=1)

    def layer(self, name: str, stream: str) -> str:
        """One layer: [F, D] to the same."""
        shape = self._shape
        rows = self.normed(f"{name}.self_attn_layer_norm", stream)
        parts = [f"{name}.self_attn.{part}_proj" for part in "qkv"]
        packed = self.joint(f"{name}.self_attn.qkv", rows, parts)
        attended = self.attended(name, packed, width=shape.width, heads=shape.encoder_heads)
        written = self.linear(f"{name}.self_attn.out_proj", attended)
        stream = self.add("Add", f"{name}/attended", [stream, written])
        rows = self.normed(f"{name}.final_layer_norm", stream)
        inner = self.linear(f"{name}.fc1", rows)
        inner = self.add("Gelu", f"{name}/gelu", [inner], domain=MICROSOFT)
        written = self.linear(f"{name}.fc2", inner)
        return self.add("Add", f"{name}/sum", [stream, written])
