"""The fp32 graph of Whisper's encoder: features of a window in, the decoder's memory of it out.

Products, sums and norms work on rows [F, D], one for each frame; attention alone sees a window.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto, helper

from exporters.graph.builder import Builder, Floats
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
    builder.reshape("states", rows, [1, shape.frames, shape.width], IO.states)
    for layer in range(shape.decoder_layers):
        builder.memory(layer, rows)
    return builder.graph()


class _Builder(Builder):
    def __init__(self, shape: SpeechShape, weights: Mapping[str, Floats]) -> None:
        super().__init__(weights, epsilon=EPSILON)
        self._shape = shape
        self._scale = float((shape.width // shape.encoder_heads) ** -0.5)

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
        packed = self.reshape(f"{name}/window", packed, [1, -1, 3 * shape.width])
        attended = self.add(
            "MultiHeadAttention",
            f"{name}/attention",
            self.split(f"{name}/split", packed, [shape.width] * 3),
            domain=MICROSOFT,
            num_heads=shape.encoder_heads,
            scale=self._scale,
        )
        rows = self.reshape(f"{name}/rows", attended, [-1, shape.width])
        written = self.linear(f"{name}.self_attn.out_proj", rows)
        stream = self.add("Add", f"{name}/attended", [stream, written])
        rows = self.normed(f"{name}.final_layer_norm", stream)
        inner = self.linear(f"{name}.fc1", rows)
        inner = self.add("Gelu", f"{name}/gelu", [inner], domain=MICROSOFT)
        written = self.linear(f"{name}.fc2", inner)
        return self.add("Add", f"{name}/sum", [stream, written])

    def memory(self, layer: int, rows: str) -> None:
        """Keys and values of the rows for a layer of the decoder: [1, heads, F, D / heads]."""
        shape, name = self._shape, f"memory.{layer}"
        parts = [f"model.decoder.layers.{layer}.encoder_attn.{part}_proj" for part in "kv"]
        packed = self.joint(name, rows, parts)
        packed = self.reshape(f"{name}/window", packed, [1, -1, 2 * shape.width])
        outputs = (IO.memory.present_key, IO.memory.present_value)
        for part, output in zip(
            self.split(f"{name}/split", packed, [shape.width] * 2), outputs, strict=True
        ):
            sizes = [1, -1, shape.decoder_heads, shape.head_size]
            heads = self.reshape(f"{part}/heads", part, sizes)
            made = output.format(layer=layer)
            self.add("Transpose", f"{part}/turned", [heads], made, perm=[0, 2, 1, 3])

    def graph(self) -> Graph:
        """All of it."""
        shape, value = self._shape, helper.make_tensor_value_info
        row = [1, shape.decoder_heads, shape.frames, shape.head_size]
        names = [
            name.format(layer=layer)
            for layer in range(shape.decoder_layers)
            for name in (IO.memory.present_key, IO.memory.present_value)
        ]
        return Graph(
            nodes=self.nodes,
            inputs=[value(IO.features, TensorProto.FLOAT, [1, shape.bins, 2 * shape.frames])],
            outputs=[
                value(IO.states, TensorProto.FLOAT, [1, shape.frames, shape.width]),
                *(value(name, TensorProto.FLOAT, row) for name in names),
            ],
            weights=self.weights,
        )

    def _convolved(self, name: str, value: str, *, stride: int) -> str:
        inputs = [value, *(self.vector(f"{PREFIX}.{name}.{part}") for part in ("weight", "bias"))]
        made = self.add(
            "Conv", name, inputs, kernel_shape=[3], strides=[stride], pads=[1, 1], dilations=[1]
        )
        return self.add("Gelu", f"{name}/gelu", [made], domain=MICROSOFT)
