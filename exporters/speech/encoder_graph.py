"""The fp32 graph of Whisper's encoder: features of a window in, the decoder's memory of it out."""

from __future__ import annotations

from collections.abc import Mapping

from exporters.conditioned.graphs import EncoderBuilder
from exporters.graph.builder import Floats
from exporters.graph.graph import MICROSOFT, Graph
from exporters.model.speech import SpeechShape
from exporters.speech.naming import ENCODER as IO

EPSILON = 1e-5
"""Of Whisper's norms."""
PREFIX = "model.encoder"
CONVOLUTIONS = ("model.encoder.conv1.weight", "model.encoder.conv2.weight")


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
        """Two convolutions, the second of which halves the frames, and positions: [F, D]."""
        value = self._convolved("conv1", IO.features, stride=1)
        value = self._convolved("conv2", value, stride=2)
        value = self.add("Transpose", "frames", [value], perm=[0, 2, 1])
        rows = self.reshape("rows", value, [-1, self._shape.width])
        places = self.vector(f"{PREFIX}.embed_positions.weight")
        return self.add("Add", "embedded", [rows, places])

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

    def _convolved(self, name: str, value: str, *, stride: int) -> str:
        inputs = [value, *(self.vector(f"{PREFIX}.{name}.{part}") for part in ("weight", "bias"))]
        made = self.add(
            "Conv", name, inputs, kernel_shape=[3], strides=[stride], pads=[1, 1], dilations=[1]
        )
        return self.add("Gelu", f"{name}/gelu", [made], domain=MICROSOFT)
