"""The families of encoders there are, and what each calls its settings and tensors.

All are BERT's layers: attention over the whole text and a product with an activation, each followed
by a sum and a norm.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LayerNames:
    """A layer's linear maps and norms, below the layer's own name."""

    query: str
    key: str
    value: str
    attended: str
    attended_norm: str
    inner: str
    outer: str
    outer_norm: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a model_type's configuration and weights are called.

    - architectures: classes without a head.
    - layers, heads, hidden, activation: keys of config.json; epsilon where that states none.
    - positions_after_padding: a text's first position is the one behind the padding token's id.
    - layer: a layer's name, by its number; tables and their norm below `embeddings`.
    """

    architectures: tuple[str, ...]
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    hidden: str = "hidden_size"
    activation: str = "hidden_act"
    epsilon: float = 1e-12
    positions_after_padding: bool = False
    layer: str = "encoder.layer.{}"
    names: LayerNames


BERT_NAMES = LayerNames(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attended="attention.output.dense",
    attended_norm="attention.output.LayerNorm",
    inner="intermediate.dense",
    outer="output.dense",
    outer_norm="output.LayerNorm",
)
DISTIL_NAMES = LayerNames(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attended="attention.out_lin",
    attended_norm="sa_layer_norm",
    inner="ffn.lin1",
    outer="ffn.lin2",
    outer_norm="output_layer_norm",
)
WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
"""Of the kinds of segments; every text is of the first kind. Some families have none."""
NORM = "embeddings.LayerNorm"

FAMILIES = {
    "bert": Family(architectures=("BertModel",), names=BERT_NAMES),
    "roberta": Family(
        architectures=("RobertaModel",), names=BERT_NAMES, positions_after_padding=True
    ),
    "xlm-roberta": Family(
        architectures=("XLMRobertaModel",), names=BERT_NAMES, positions_after_padding=True
    ),
    "camembert": Family(
        architectures=("CamembertModel",), names=BERT_NAMES, positions_after_padding=True
    ),
    "distilbert": Family(
        architectures=("DistilBertModel",),
        layers="n_layers",
        heads="n_heads",
        hidden="dim",
        activation="activation",
        layer="transformer.layer.{}",
        names=DISTIL_NAMES,
    ),
}
"""By model_type."""
