"""A GGUF file of a Llama with a byte-level BPE vocabulary, as a Hugging Face model folder.

Source of the conventions: the GGUF specification and llama.cpp's converter. Weights become fp32
safetensors; the tokenizer is rebuilt from the metadata alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from exporters.errors import Refused

SHARD_FILE = "model.safetensors"

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def write_model_folder(gguf_file: Path, folder: Path) -> None:
    """Write config, weights, tokenizer and generation config to `folder`.

    Raises:
        Refused: the file holds another architecture or another kind of vocabulary.
    """
    reader = GGUFReader(gguf_file)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    if metadata["general.architecture"] != "llama":
        raise Refused(f"{gguf_file.name}: architecture {metadata['general.architecture']}")
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    _write_json(folder / "config.json", _config(metadata, tied=tied))
    _write_json(folder / "generation_config.json", _generation_config(metadata))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(metadata))
    tokenizer_of(metadata).save(str(folder / "tokenizer.json"))
    if template := metadata.get("tokenizer.chat_template"):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    save_file(_weights(reader, metadata), folder / SHARD_FILE, metadata={"format": "pt"})


def tokenizer_of(metadata: dict[str, Any]) -> Tokenizer:
    """The tokenizer that the metadata describe.

    "smollm" splits digits one by one before the byte-level splits of GPT-2, and adds no token of
    its own at the beginning.

    Raises:
        Refused: another kind of vocabulary or pre-tokenizer.
    """
    kind = (metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise Refused(f"the tokenizer is {kind}; only a smollm one can be rebuilt")
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = metadata["tokenizer.ggml.token_type"]
    control = [
        token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.CONTROL
    ]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in control])
    return tokenizer


def _config(metadata: dict[str, Any], *, tied: bool) -> dict[str, Any]:
    heads = metadata["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get("llama.attention.head_count_kv", heads),
        "max_position_embeddings": metadata["llama.context_length"],
        "rope_theta": metadata["llama.rope.freq_base"],
        # The file keeps a float32; config files tell the decimal that was meant.
        "rms_norm_eps": float(
            np.float32(metadata["llama.attention.layer_norm_rms_epsilon"]).astype(str)
        ),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
        "torch_dtype": "float32",
    }


def _generation_config(metadata: dict[str, Any]) -> dict[str, Any]:
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    return {
        f"{ours}_token_id": metadata[f"tokenizer.ggml.{theirs}_token_id"]
        for ours, theirs in names.items()
    }


def _tokenizer_config(metadata: dict[str, Any]) -> dict[str, Any]:
    tokens = metadata["tokenizer.ggml.tokens"]
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {
        f"{ours}_token": tokens[metadata[f"tokenizer.ggml.{theirs}_token_id"]]
        for ours, theirs in names.items()
    }
    return special | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": metadata["llama.context_length"],
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }


def _weights(reader: GGUFReader, metadata: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    heads = metadata["llama.attention.head_count"]
    permuted = {
        "attn_q": heads,
        "attn_k": metadata.get("llama.attention.head_count_kv", heads),
    }
    weights = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        part = tensor.name.split(".")
        if part[0] == "blk" and part[2] in permuted:
            weight = _unpermute(weight, permuted[part[2]])
        weights[_hub_name(tensor.name)] = np.ascontiguousarray(weight)
    return weights


def _hub_name(name: str) -> str:
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    match name.split("."):
        case ["blk", layer, part, "weight"] if part in LAYER_NAMES:
            return f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"
    raise Refused(f"the GGUF file holds a tensor {name}, which no Llama has")


def _unpermute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo the converter's interleaving of each head's rows: pairs (2 i, 2 i + 1) -> halves."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
