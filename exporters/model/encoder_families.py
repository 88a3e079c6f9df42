"""The families of encoders there are, and what each calls its settings and tensors.

Most are BERT's layers: attention over the whole text and a product with an activation, each
followed by a sum and a norm. The graphs of those are built of their weights; those of the others
(`traced`) are PyTorch's own trace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


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
class MaskedNames:
    """The head of a masked LM: a linear map, an activation, a norm, and the map to the
    vocabulary."""

    dense: str
    norm: str
    decoder: str


@dataclass(frozen=True, kw_only=True)
class SequenceNames:
    """The head for whole texts: a linear map of the first token, an activation by its name in
    ONNX, and the map to the labels."""

    dense: str
    activation: str
    out: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a model_type's configuration and weights are called.

    - stem: what the names of its classes begin with; prefix: of its weights, in models with heads.
    - layers, heads, hidden, activation: keys of config.json; epsilon where that states none.
    - positions_after_padding: a text's first position is the one behind the padding token's id.
    - layer: a layer's name, by its number; tables and their norm below `embeddings`.
    - projection: a linear map behind the embeddings, where these are narrower.
    - distances: a table of what attention adds by how far two tokens are apart.
    - masked, sequence: heads; the one for tokens is `classifier` everywhere.
    - names: None where the graph is PyTorch's trace, heads and all.
    """

    stem: str
    prefix: str
    masked: MaskedNames | None = None
    sequence: SequenceNames | None = None
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    hidden: str = "hidden_size"
    activation: str = "hidden_act"
    epsilon: float = 1e-12
    positions_after_padding: bool = False
    layer: str = "encoder.layer.{}"
    projection: str | None = None
    distances: str | None = None
    names: LayerNames | None

    @property
    def traced(self) -> bool:
        """Whether PyTorch traces the graph."""
        return self.names is None


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
MPNET_NAMES = replace(
    BERT_NAMES,
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    attended="attention.attn.o",
    attended_norm="attention.LayerNorm",
)
BERT_MASKED = MaskedNames(
    dense="cls.predictions.transform.dense",
    norm="cls.predictions.transform.LayerNorm",
    decoder="cls.predictions.decoder",
)
ROBERTA_MASKED = MaskedNames(
    dense="lm_head.dense", norm="lm_head.layer_norm", decoder="lm_head.decoder"
)
OWN_POOLER = SequenceNames(dense="pooler.dense", activation="Tanh", out="classifier")
OUT_PROJECTION = SequenceNames(
    dense="classifier.dense", activation="Tanh", out="classifier.out_proj"
)
WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
"""Of the kinds of segments; a text alone is of the first kind. Some families have none."""
NORM = "embeddings.LayerNorm"

_ROBERTA = Family(
    stem="Roberta",
    prefix="roberta",
    names=BERT_NAMES,
    masked=ROBERTA_MASKED,
    sequence=OUT_PROJECTION,
    positions_after_padding=True,
)
FAMILIES = {
    "bert": Family(
        stem="Bert", prefix="bert", names=BERT_NAMES, masked=BERT_MASKED, sequence=OWN_POOLER
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": replace(_ROBERTA, stem="XLMRoberta"),
    "camembert": replace(_ROBERTA, stem="Camembert"),
    "distilbert": Family(
        stem="DistilBert",
        prefix="distilbert",
        names=DISTIL_NAMES,
        masked=MaskedNames(
            dense="vocab_transform", norm="vocab_layer_norm", decoder="vocab_projector"
        ),
        sequence=SequenceNames(dense="pre_classifier", activation="Relu", out="classifier"),
        layers="n_layers",
        heads="n_heads",
        hidden="dim",
        activation="activation",
        layer="transformer.layer.{}",
    ),
    "mpnet": Family(
        stem="MPNet",
        prefix="mpnet",
        names=MPNET_NAMES,
        masked=ROBERTA_MASKED,
        sequence=OUT_PROJECTION,
        positions_after_padding=True,
        distances="encoder.relative_attention_bias.weight",
    ),
    "electra": Family(
        stem="Electra",
        prefix="electra",
        names=BERT_NAMES,
        masked=MaskedNames(
            dense="generator_predictions.dense",
            norm="generator_predictions.LayerNorm",
            decoder="generator_lm_head",
        ),
        sequence=replace(OUT_PROJECTION, activation="Gelu"),
        projection="embeddings_project",
    ),
    "deberta-v2": Family(stem="DebertaV2", prefix="deberta", names=None, epsilon=1e-7),
    "modernbert": Family(
        stem="ModernBert",
        prefix="model",
        names=None,
        activation="hidden_activation",
        epsilon=1e-5,
    ),
}
"""By model_type."""
