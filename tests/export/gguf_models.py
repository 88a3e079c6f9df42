"""Tiny models as GGUF files, their matrices in any of its types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from tests.export.tiny import LLAMA3, TEMPLATE, WINDOW

VOCABULARY = 320
POSITIONS = 512
WIDTH = 256
"""K-quants come in blocks of as many."""
SPREAD = 0.06
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "head_dim": 64,
}
FAMILIES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "llama": ("llama", "LlamaForCausalLM", "LlamaConfig", {}),
    "llama-tied-llama3-rope": (
        "llama",
        "LlamaForCausalLM",
        "LlamaConfig",
        {"tie_word_embeddings": True, "rope_scaling": LLAMA3, "rope_theta": 500000.0},
    ),
    "llama-linear-rope": (
        "llama",
        "LlamaForCausalLM",
        "LlamaConfig",
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    ),
    "mistral-window": ("llama", "MistralForCausalLM", "MistralConfig", {"sliding_window": WINDOW}),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", "Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", "Qwen3Config", {"head_dim": 32}),
}
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
PLAIN = {Kind.F32: np.float32, Kind.F16: np.float16}
SCALES = {
    Kind.Q4_K: {0: 0.0003, 2: 0.00225},
    Kind.Q5_K: {0: 0.00015, 2: 0.00225},
    Kind.Q6_K: {208: 0.00005},
}
"""Where a block of a K-quant has its half-precision numbers; values that make small weights."""


def make_model(family: str) -> Any:
    """A model with random weights, norms and biases."""
    _, model_class, config_class, changes = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**{**SIZES, **changes})
    model = getattr(transformers, model_class)(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, SPREAD if parameter.ndim > 1 else 0.3)
    model.set_attn_implementation("eager")
    return model


def stored(weight: NDArray[np.float32], kind: Kind) -> NDArray[Any]:
    """The bytes of a matrix in a type; of a K-quant, which Python cannot make, random ones."""
    if kind in PLAIN:
        return weight.astype(PLAIN[kind])
    if kind not in SCALES:
        return quantize(weight, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(weight.size)
    blocks = random.integers(0, 256, (weight.size // block, size), np.uint8)
    for at, scale in SCALES[kind].items():
        blocks[:, at : at + 2] = np.array([scale], np.float16).view(np.uint8)
    return blocks.reshape(len(weight), -1)


def permuted(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """As llama.cpp's converter does: a head's row i and row i + D/2 come to lie side by side."""
    order = []
    for head in np.split(np.arange(len(rows)), heads):
        half = len(head) // 2
        order += [row for i in range(half) for row in (head[i], head[half + i])]
    return rows[order]


def write_model(
    path: Path,
    family: str,
    kind: Kind,
    *,
    others: Mapping[str, Kind] | None = None,
    **metadata: Any,
) -> Any:
    """Write a model to `path`; the model with its weights as the file has them.

    `others` are kinds of parts: of `attn_v`, say.
    """
    model, arch = make_model(family), FAMILIES[family][0]
    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    write_sizes(writer, config)
    write_tokenizer(writer)
    for key, value in metadata.items():
        writer.add_string(key.replace("__", "."), value)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, parameter in model.named_parameters():
        gguf_name = tensor_name(name)
        weight = parameter.detach().numpy()
        if weight.ndim == 1:
            writer.add_tensor(gguf_name, weight)
            continue
        part = gguf_name.split(".")[-2]
        own = (others or {}).get(part, kind)
        raw = stored(weight, own)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(dequantize(raw, own).astype(np.float32)))
        if arch == "llama" and part in heads:
            raw = permuted(raw, heads[part])
        writer.add_tensor(gguf_name, raw, raw_dtype=None if own in PLAIN else own)
    if scaling_of(config).get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def tensor_name(name: str) -> str:
    """What the converter calls a parameter."""
    if name in TOP:
        return TOP[name]
    _, _, layer, rest = name.split(".", 3)
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def llama3_factors(config: Any) -> NDArray[np.float32]:
    """What Llama 3's scaling divides each frequency by (llama.cpp's converter has the formula)."""
    scaling, size = config.rope_scaling, config.head_dim
    factors = []
    for i in range(0, size, 2):
        wavelength = 2 * np.pi * config.rope_theta ** (i / size)
        turns = scaling["original_max_position_embeddings"] / wavelength
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, np.float32)


def scaling_of(config: Any) -> dict[str, Any]:
    """How rotary frequencies are scaled, if they are."""
    return getattr(config, "rope_scaling", None) or {}


def write_sizes(writer: gguf.GGUFWriter, config: Any) -> None:
    """The hyperparameters, as the converter writes them."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if config.model_type == "mistral":
        writer.add_sliding_window(config.sliding_window)
    if (scaling := scaling_of(config)).get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])


def write_tokenizer(writer: gguf.GGUFWriter) -> None:
    """Bytes, a few special tokens and a template."""
    special = ["<pad>", "<s>", "<|end|>", "<|turn|>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens.append("Ġa")
    tokens += [f"[PAD{n}]" for n in range(VOCABULARY - len(tokens))]
    sorts = [gguf.TokenType.CONTROL] * len(special)
    sorts += [gguf.TokenType.NORMAL] * 257
    sorts += [gguf.TokenType.UNUSED] * (VOCABULARY - len(sorts))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(sorts)
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)
