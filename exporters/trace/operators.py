"""Operators that a graph shall hold whole, as PyTorch operators with an ONNX symbol each.

- `nsedge::gqa` becomes com.microsoft.GroupQueryAttention, which owns the key and value cache:
  rows of unequal length, rotary embedding, sliding window, soft cap and attention sinks inside.
- `nsedge::rms_norm` becomes nsedge.RmsNorm, a mark that the clean-up turns into ONNX Runtime's
  SimplifiedLayerNormalization (whose domain torch's own checker does not accept).
- `nsedge::gelu_tanh` becomes com.microsoft.FastGelu.
- `nsedge::place_rows` becomes ScatterND: rows in the place of some tokens' embeddings.
- `nsedge::mha` becomes com.microsoft.MultiHeadAttention: all attend to all, or to those that are
  there.
- `nsedge::rotary` becomes com.microsoft.RotaryEmbedding, by the rows of tables that it is told.

The PyTorch side computes what the ONNX operator computes, so that tracing sees true values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.onnx import symbolic_helper

from exporters.graph.graph import MARK_DOMAIN, RMS_NORM_MARK

SYMBOL_OPSET = 14

_library = torch.library.Library("nsedge", "DEF")
_library.define(
    "gqa(Tensor query, Tensor key, Tensor value, Tensor past_key, Tensor past_value,"
    " Tensor seqlens_k, Tensor total_length, Tensor? cos, Tensor? sin, Tensor? sinks,"
    " int heads, int kv_heads, float scale, int window, float softcap)"
    " -> (Tensor, Tensor, Tensor)"
)
_library.define("rms_norm(Tensor x, Tensor weight, float epsilon) -> Tensor")
_library.define("gelu_tanh(Tensor x) -> Tensor")
_library.define("place_rows(Tensor embedded, Tensor rows, Tensor positions) -> Tensor")
_library.define(
    "mha(Tensor query, Tensor key, Tensor value, Tensor? there, int heads, float scale) -> Tensor"
)
_library.define("rotary(Tensor x, Tensor rows, Tensor cos, Tensor sin) -> Tensor")


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first 2 R of D features of x [B, H, S, D] by tables [B, S, R] (halves paired)."""
    cos, sin, half = cos.unsqueeze(1), sin.unsqueeze(1), cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def _visible(positions: torch.Tensor, capacity: int, window: int) -> torch.Tensor:
    """Which keys [B, S, capacity] each query at `positions` [B, S] may see."""
    keys, queries = torch.arange(capacity)[None, None, :], positions[:, :, None]
    seen = keys <= queries
    return seen & (keys > queries - window) if window > 0 else seen


def _weights(scores: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
    if sinks is None:
        return torch.softmax(scores, dim=-1)
    rows, heads, queries, _ = scores.shape
    column = sinks.view(1, heads, 1, 1).expand(rows, heads, queries, 1)
    return torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)[..., :-1]


def gqa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    past_key: torch.Tensor,
    past_value: torch.Tensor,
    seqlens_k: torch.Tensor,
    total_length: torch.Tensor,
    cos: torch.Tensor | None,
    sin: torch.Tensor | None,
    sinks: torch.Tensor | None,
    heads: int,
    kv_heads: int,
    scale: float,
    window: int,
    softcap: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attention of query [B, S, heads * D] over the cache [B, kv_heads, capacity, D].

    seqlens_k [B] is each row's length after this call, less one; cos and sin [positions, R].
    Returns the output [B, S, heads * D] and the cache with the new keys and values in it.
    """
    rows, length, _ = query.shape
    width = past_key.shape[-1]
    query = query.view(rows, length, heads, width).transpose(1, 2)
    key = key.view(rows, length, kv_heads, width).transpose(1, 2)
    value = value.view(rows, length, kv_heads, width).transpose(1, 2)
    start = (seqlens_k.long().view(rows) + 1 - length).clamp(min=0)
    positions = start[:, None] + torch.arange(length)[None]
    if cos is not None and sin is not None:
        query = rotate(query, cos[positions], sin[positions])
        key = rotate(key, cos[positions], sin[positions])
    keys, values = past_key.clone(), past_value.clone()
    for row in range(rows):
        keys[row, :, positions[row]] = key[row]
        values[row, :, positions[row]] = value[row]
    group = heads // kv_heads
    scores = query @ keys.repeat_interleave(group, 1).transpose(-1, -2) * scale
    if softcap > 0:
        scores = softcap * torch.tanh(scores / softcap)
    hidden = ~_visible(positions, keys.shape[2], window)[:, None]
    weights = _weights(scores.masked_fill(hidden, float("-inf")), sinks)
    output = weights @ values.repeat_interleave(group, 1)
    return output.transpose(1, 2).reshape(rows, length, heads * width), keys, values


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Root mean square norm over the last axis (arXiv 1910.07467)."""
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon))


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    """The Gaussian error linear unit by its tanh approximation (arXiv 1606.08415)."""
    return torch.nn.functional.gelu(x, approximate="tanh")


def place_rows(embedded: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """`embedded` [B, S, H] with `rows` [M, H] at `positions` [M, 2]: row of the batch, place."""
    return embedded.index_put((positions[:, 0], positions[:, 1]), rows)


def mha(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    there: torch.Tensor | None,
    heads: int,
    scale: float,
) -> torch.Tensor:
    """Attention of query [B, S, heads * D] over key and value [B, T, heads * D]: all of them, or
    those that are `there`, int32 [B, T]."""
    parts = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    mask = None if there is None else there[:, None, None].bool()
    attended = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask, scale=scale)
    return attended.transpose(1, 2).flatten(2)


def rotary(
    x: torch.Tensor, rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """x [B, S, heads * 2 R] with each head rotated by `rows` [B, S] of tables [T, R]."""
    heads = x.unflatten(-1, (-1, 2 * cos.shape[-1])).transpose(1, 2)
    return rotate(heads, cos[rows], sin[rows]).transpose(1, 2).flatten(2)


whole_attention = torch.ops.nsedge.mha
"""`mha` as a trace keeps it whole."""

_library.impl("gqa", gqa, "CPU")
_library.impl("mha", mha, "CPU")
_library.impl("rotary", rotary, "CPU")
_library.impl("place_rows", place_rows, "CPU")
_library.impl("rms_norm", rms_norm, "CPU")
_library.impl("gelu_tanh", gelu_tanh, "CPU")


@torch.library.register_fake("nsedge::gqa", lib=_library)
def _gqa_shape(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    past_key: torch.Tensor,
    past_value: torch.Tensor,
    *rest: object,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(query), torch.empty_like(past_key), torch.empty_like(past_value)


@torch.library.register_fake("nsedge::rms_norm", lib=_library)
def _rms_norm_shape(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("nsedge::gelu_tanh", lib=_library)
def _gelu_tanh_shape(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("nsedge::place_rows", lib=_library)
def _place_rows_shape(
    embedded: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    return torch.empty_like(embedded)


@torch.library.register_fake("nsedge::mha", lib=_library)
def _mha_shape(query: torch.Tensor, *rest: object) -> torch.Tensor:
    return torch.empty_like(query)


@torch.library.register_fake("nsedge::rotary", lib=_library)
def _rotary_shape(x: torch.Tensor, *rest: object) -> torch.Tensor:
    return torch.empty_like(x)


def _absent(value: Any) -> bool:
    return value is None or (hasattr(value, "node") and value.node().mustBeNone())


@symbolic_helper.parse_args(*["v"] * 10, "i", "i", "f", "i", "f")
def _gqa_symbol(
    g: Any,
    query: Any,
    key: Any,
    value: Any,
    past_key: Any,
    past_value: Any,
    seqlens_k: Any,
    total_length: Any,
    cos: Any,
    sin: Any,
    sinks: Any,
    heads: int,
    kv_heads: int,
    scale: float,
    window: int,
    softcap: float,
) -> Any:
    nothing = symbolic_helper._optional_input_placeholder_tensor
    rotary = not _absent(cos)
    inputs = [query, key, value, past_key, past_value, seqlens_k, total_length]
    if rotary:
        inputs += [cos, sin]
    if not _absent(sinks):
        inputs += [nothing(g) for _ in range(11 - len(inputs))]  # sinks are input 11
        inputs.append(sinks)
    attributes: dict[str, int | float] = {
        "num_heads_i": heads,
        "kv_num_heads_i": kv_heads,
        "scale_f": scale,
        "do_rotary_i": int(rotary),
        "rotary_interleaved_i": 0,
    }
    if window > 0:
        attributes["local_window_size_i"] = window
    if softcap > 0:
        attributes["softcap_f"] = softcap
    out, keys, values = g.op("com.microsoft::GroupQueryAttention", *inputs, outputs=3, **attributes)
    out.setType(query.type())
    keys.setType(past_key.type())
    values.setType(past_value.type())
    return out, keys, values


@symbolic_helper.parse_args("v", "v", "f")
def _rms_norm_symbol(g: Any, x: Any, weight: Any, epsilon: float) -> Any:
    out = g.op(f"{MARK_DOMAIN}::{RMS_NORM_MARK}", x, weight, epsilon_f=epsilon)
    out.setType(x.type())
    return out


def _gelu_tanh_symbol(g: Any, x: Any) -> Any:
    out = g.op("com.microsoft::FastGelu", x)
    out.setType(x.type())
    return out


def _place_rows_symbol(g: Any, embedded: Any, rows: Any, positions: Any) -> Any:
    out = g.op("ScatterND", embedded, positions, rows)
    out.setType(embedded.type())
    return out


@symbolic_helper.parse_args("v", "v", "v", "v", "i", "f")
def _mha_symbol(
    g: Any, query: Any, key: Any, value: Any, there: Any, heads: int, scale: float
) -> Any:
    inputs = [query, key, value]
    if not _absent(there):  # the mask of keys is input 4
        inputs += [symbolic_helper._optional_input_placeholder_tensor(g), there]
    out = g.op("com.microsoft::MultiHeadAttention", *inputs, num_heads_i=heads, scale_f=scale)
    out.setType(query.type())
    return out


def _rotary_symbol(g: Any, x: Any, rows: Any, cos: Any, sin: Any) -> Any:
    out = g.op("com.microsoft::RotaryEmbedding", x, rows, cos, sin, interleaved_i=0)
    out.setType(x.type())
    return out


torch.onnx.register_custom_op_symbolic("nsedge::gelu_tanh", _gelu_tanh_symbol, SYMBOL_OPSET)
torch.onnx.register_custom_op_symbolic("nsedge::gqa", _gqa_symbol, SYMBOL_OPSET)
torch.onnx.register_custom_op_symbolic("nsedge::rms_norm", _rms_norm_symbol, SYMBOL_OPSET)
torch.onnx.register_custom_op_symbolic("nsedge::mha", _mha_symbol, SYMBOL_OPSET)
torch.onnx.register_custom_op_symbolic("nsedge::place_rows", _place_rows_symbol, SYMBOL_OPSET)
torch.onnx.register_custom_op_symbolic("nsedge::rotary", _rotary_symbol, SYMBOL_OPSET)
