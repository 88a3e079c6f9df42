"""Which model a GGUF file holds: family, sizes, and the tensors that it must have.

Keys and tensor names are those of llama.cpp's converter, which writes Mistral models as "llama".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError, Refused
from exporters.gguf.file import GgufFile, Metadata, shown
from exporters.gguf.keys import check_keys

HEAD_MULTIPLE = 16
"""Of a head's features, as attention with a rotation inside needs."""
ROPE_FACTORS = "rope_freqs.weight"
"""Divisors of the frequencies: Llama 3's scaling as a GGUF file has it."""
HEAD = "output.weight"
TABLE = "token_embd.weight"
NORM = "output_norm.weight"


@dataclass(frozen=True, kw_only=True)
class Family:
    """The traits of an architecture.

    `interleaved`: the converter has put rows i and i + D/2 of each query and key head side by side.
    """

    architecture: str
    model_type: str
    interleaved: bool = False
    biases: bool = False
    """On query, key and value."""
    head_norms: bool = False
    """Query and key heads are normed before they are rotated."""
    rope_factors: bool = False
    """Each frequency may have a number that it is divided by."""


FAMILIES = {
    "llama": Family(
        architecture="LlamaForCausalLM", model_type="llama", interleaved=True, rope_factors=True
    ),
    "qwen2": Family(architecture="Qwen2ForCausalLM", model_type="qwen2", biases=True),
    "qwen3": Family(architecture="Qwen3ForCausalLM", model_type="qwen3", head_norms=True),
}
MISTRAL = Family(
    architecture="MistralForCausalLM", model_type="mistral", interleaved=True, rope_factors=True
)
"""A "llama" with a sliding window."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes and constants of a decoder; `rope_factor` divides every position."""

    family: Family
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    epsilon: float
    rope_base: float
    rope_factor: float
    window: int | None
    tied: bool


def shape_of(file: GgufFile) -> Shape:
    """Read the sizes, and hold every tensor to them.

    Raises:
        Refused: it is another kind of model.
        ExportError: a tensor is missing or of another shape, or a size makes no sense.
    """
    metadata = file.metadata
    name = metadata.text("general.architecture")
    if name not in FAMILIES:
        raise Refused(
            f"{metadata.where}: architecture {shown(name)}; what can be imported is"
            f" {', '.join(FAMILIES)} (and Mistral, which is a llama there)"
        )
    check_keys(metadata, name)
    _refuse_variants(metadata, name)
    window, context = (
        metadata.whole(f"{name}.attention.sliding_window", 0),
        metadata.positive(f"{name}.context_length"),
    )
    if window >= context:  # every token is within it
        window = 0
    heads, width = (
        metadata.positive(f"{name}.attention.head_count"),
        metadata.positive(f"{name}.embedding_length"),
    )
    table = file.tensors.get(TABLE)
    shape = Shape(
        family=MISTRAL if window else FAMILIES[name],
        layers=metadata.positive(f"{name}.block_count"),
        width=width,
        inner=metadata.positive(f"{name}.feed_forward_length"),
        heads=heads,
        kv_heads=metadata.positive(f"{name}.attention.head_count_kv", heads),
        head_dim=metadata.positive(f"{name}.attention.key_length", max(1, width // heads)),
        vocabulary=table.shape[0] if table else 0,
        context=context,
        epsilon=metadata.real(f"{name}.attention.layer_norm_rms_epsilon"),
        rope_base=metadata.real(f"{name}.rope.freq_base", 10000.0),
        rope_factor=_rope_factor(metadata, name),
        window=window or None,
        tied=HEAD not in file.tensors,
    )
    _check_heads(metadata, name, shape)
    _check_tensors(file, shape)
    return shape


def _refuse_variants(metadata: Metadata, name: str) -> None:
    if metadata.whole(f"{name}.expert_count", 0):
        raise Refused(f"{metadata.where}: a mixture of experts; those are not imported")
    key = f"{name}.attention.sliding_window"
    if name != "llama" and metadata.whole(key, 0):
        raise Refused(f"{metadata.where}: {key}; only a llama's window is followed")


def _rope_factor(metadata: Metadata, name: str) -> float:
    """As llama.cpp has it: linear if nothing else is said, the newer key first, 0 no scaling."""
    kind = metadata.text(f"{name}.rope.scaling.type", "linear")
    if kind == "none":
        return 1.0
    if kind == "linear":
        keys = [f"{name}.rope.{key}" for key in ("scaling.factor", "scale_linear")]
        key = next((key for key in keys if key in metadata), None)
        return 1.0 if key is None else metadata.real(key, zero=True) or 1.0
    raise Refused(f"{metadata.where}: rotary scaling {shown(kind)}; linear and Llama 3's are known")


def _check_heads(metadata: Metadata, name: str, shape: Shape) -> None:
    if shape.head_dim % HEAD_MULTIPLE:
        raise Refused(
            f"{metadata.where}: head size {shape.head_dim} is no multiple of {HEAD_MULTIPLE}"
        )
    if shape.heads % shape.kv_heads:
        raise ExportError(f"{metadata.where}: {shape.heads} heads over {shape.kv_heads}")
    for key in (f"{name}.attention.value_length", f"{name}.rope.dimension_count"):
        if metadata.positive(key, shape.head_dim) != shape.head_dim:
            raise Refused(f"{metadata.where}: {key} is not the head size, {shape.head_dim}")


def _check_tensors(file: GgufFile, shape: Shape) -> None:
    where = file.metadata.where
    optional = {ROPE_FACTORS: (shape.head_dim // 2,)} if shape.family.rope_factors else {}
    wanted = dict(_top_tensors(shape))
    for layer in range(shape.layers):
        for name, size in _layer_tensors(shape).items():
            wanted[f"blk.{layer}.{name}"] = size
        # Found layer by layer: a file may claim any number of them.
        _hold(file, {f"blk.{layer}.attn_norm.weight": (shape.width,)})
    _hold(file, wanted)
    for name, tensor in file.tensors.items():
        if name in optional and tensor.shape == optional[name]:
            continue
        if name not in wanted:
            kind = shape.family.model_type
            raise Refused(f"{where} holds a tensor {shown(name)}, which no {kind} has")
    if ROPE_FACTORS in file.tensors and not (file.read(ROPE_FACTORS) > 0).all():
        raise ExportError(f"{where}: {ROPE_FACTORS} holds what is not above zero")


def _hold(file: GgufFile, wanted: dict[str, tuple[int, ...]]) -> None:
    for name, size in wanted.items():
        found = file.tensors.get(name)
        if found is None:
            raise ExportError(f"{file.metadata.where}: the tensor {name} is missing")
        if found.shape != size:
            raise ExportError(
                f"{file.metadata.where}: {name} is {list(found.shape)}, not {list(size)}"
            )


def _top_tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    table = (shape.vocabulary, shape.width)
    head = {} if shape.tied else {HEAD: table}
    return {TABLE: table, NORM: (shape.width,), **head}


def _layer_tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    width, inner = shape.width, shape.inner
    tensors: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (width,),
        "attn_q.weight": (queries, width),
        "attn_k.weight": (keys, width),
        "attn_v.weight": (keys, width),
        "attn_output.weight": (width, queries),
        "ffn_norm.weight": (width,),
        "ffn_gate.weight": (inner, width),
        "ffn_up.weight": (inner, width),
        "ffn_down.weight": (width, inner),
    }
    if shape.family.biases:
        tensors |= {"attn_q.bias": (queries,), "attn_k.bias": (keys,), "attn_v.bias": (keys,)}
    if shape.family.head_norms:
        head = (shape.head_dim,)
        tensors |= {"attn_q_norm.weight": head, "attn_k_norm.weight": head}
    return tensors


def hub_rows(rows: int, heads: int) -> NDArray[np.int64]:
    """Which row of the model each of the file's rows is, where heads are interleaved.

    A head's rows (half j, number i) lie at 2 i + j in the file.
    """
    return np.arange(rows).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)
