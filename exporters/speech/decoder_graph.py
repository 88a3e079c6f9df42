"""The fp32 graph of Whisper's decoder."""

from __future__ import annotations

from collections.abc import Mapping

from exporters.conditioned.graphs import DecoderBuilder
from exporters.graph.builder import Floats
from exporters.graph.graph import MICROSOFT, Graph
from exporters.model.speech import SpeechShape
from exporters.speech.encoder_graph import EPSILON

PREFIX = "model.decoder"
TABLE = f"{PREFIX}.embed_tokens.weight"


def build_decoder(shape: SpeechShape, weights: Mapping[str, Floats]) -> Graph:
    """The graph of `weights`, by their names in the model.

    Raises:
        KeyError: a weight is missing.
    """
    builder = _Builder(shape.decoder, weights, epsilon=EPSILON)
    stream = builder.embedded(TABLE, f"{PREFIX}.embed_positions.weight")
    for layer in range(shape.decoder_layers):
        stream = builder.layer(layer, f"{PREFIX}.layers.{layer}", stream)
    builder.told(stream, norm=f"{PREFIX}.layer_norm", table=TABLE)
    return builder.graph()


class _Builder(DecoderBuilder):
    def layer(self, layer: int, name: str, stream: str) -> str:
        """One layer: [B, Q, D] to the same."""
        rows = self.normed(f"{name}.self_attn_layer_norm", stream)
        parts = [f"{name}.self_attn.{part}_proj" for part in "qkv"]
        packed = self.joint(f"{name}.self_attn.qkv", rows, parts)
        written = self.linear(f"{name}.self_attn.out_proj", self.remembered(layer, name, packed))
        stream = self.add("Add", f"{name}/attended", [stream, written])
        rows = self.normed(f"{name}.encoder_attn_layer_norm", stream)
        query = self.linear(f"{name}.encoder_attn.q_proj", rows)
        written = self.linear(f"{name}.encoder_attn.out_proj", self.about(layer, name, query))
        stream = self.add("Add", f"{name}/heard", [stream, written])
        rows = self.normed(f"{name}.final_layer_norm", stream)
        inner = self.linear(f"{name}.fc1", rows)
        inner = self.add("Gelu", f"{name}/gelu", [inner], domain=MICROSOFT)
        written = self.linear(f"{name}.fc2", inner)
        return self.add("Add", f"{name}/sum", [stream, written])
