"""A GGUF file as a Hugging Face model folder: what describes the model, and its weights if wanted.

Source of the conventions: the GGUF specification and llama.cpp's converter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import Refused
from exporters.gguf.file import GgufFile, Metadata
from exporters.gguf.keys import TOOL_TEMPLATE_KEY
from exporters.gguf.model import HEAD, NORM, TABLE, Shape, hub_rows, shape_of
from exporters.gguf.tokenizer import end_tokens, special_token, tokenizer_of
from exporters.model.advice import checked
from exporters.model.source import TOOL_TEMPLATE
from nsedge.bundle.vocabulary import tokens_without_row

SHARD_FILE = "model.safetensors"
DIGEST_FILE = "gguf.sha256"
"""Makes whatever depends on the folder depend on the weights, too, which are not in it."""
LICENCE = re.compile(r"[\w.+-]{1,64}")

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {
    TABLE: "model.embed_tokens.weight",
    NORM: "model.norm.weight",
    HEAD: "lm_head.weight",
}
SAMPLING = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
    "penalty_last_n": "penalty_last_n",
}
"""The makers' advice, as generation_config.json and as GGUF call it."""


def write_model_folder(gguf_file: Path, folder: Path) -> None:
    """Write config, weights in fp32, tokenizer and generation config to `folder`.

    Raises:
        Refused: the file holds another kind of model or of vocabulary.
        ExportError: it is damaged.
    """
    from safetensors.numpy import save_file  # an import with no such folder needs none

    file = GgufFile(gguf_file)
    end = special_token(file.metadata, "eos")
    write_description(file, folder, ends=[] if end is None else [end])
    save_file(_weights(file), folder / SHARD_FILE, metadata={"format": "pt"})


def write_source(file: GgufFile, folder: Path, *, sha256: str) -> None:
    """Write all but the weights to `folder`, the file's SHA-256, and its licence if it names one.

    Raises:
        Refused: the file holds another kind of model or of vocabulary.
        ExportError: it is damaged.
    """
    write_description(file, folder, ends=end_tokens(file.metadata))
    (folder / DIGEST_FILE).write_text(f"{sha256}\n", encoding="utf-8")
    if licence := licence_of(file.metadata):
        card = f"---\nlicense: {licence}\n---\n"
        (folder / "README.md").write_text(card, encoding="utf-8")


def write_description(file: GgufFile, folder: Path, *, ends: Sequence[int]) -> Shape:
    """Write all but the weights to `folder`; the sizes. `ends` are the tokens that end a text.

    Raises:
        Refused: the file holds another kind of model or of vocabulary.
        ExportError: it is damaged.
    """
    shape, metadata = shape_of(file), file.metadata
    tokenizer = tokenizer_of(metadata)
    if reason := tokens_without_row(tokenizer, shape.vocabulary):
        raise Refused(f"{metadata.where}: {reason}")
    end = list(ends) if len(ends) > 1 else ends[0] if ends else None
    numbers = {"bos": special_token(metadata, "bos"), "eos": end}
    numbers["pad"] = special_token(metadata, "padding")
    ids = {f"{name}_token_id": n for name, n in numbers.items() if n is not None}
    _write_json(folder / "config.json", _config(shape) | ids | {"torch_dtype": "float32"})
    _write_json(folder / "generation_config.json", ids | _advice(metadata))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(metadata, shape))
    tokenizer.save(str(folder / "tokenizer.json"))
    if "tokenizer.chat_template" in metadata:
        template = metadata.text("tokenizer.chat_template")
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if TOOL_TEMPLATE_KEY in metadata:
        path = folder / TOOL_TEMPLATE
        path.parent.mkdir()
        path.write_text(metadata.text(TOOL_TEMPLATE_KEY), encoding="utf-8")
    return shape


def licence_of(metadata: Metadata) -> str | None:
    """The file's licence, if it is given as a name."""
    stated = metadata.text("general.license", "")
    return stated if LICENCE.fullmatch(stated) else None


def _config(shape: Shape) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architectures": [shape.family.architecture],
        "model_type": shape.family.model_type,
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_base,
        # The file keeps a float32; config files tell the decimal that was meant.
        "rms_norm_eps": float(np.float32(shape.epsilon).astype(str)),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": shape.tied,
    }
    if shape.head_dim * shape.heads != shape.width:
        config["head_dim"] = shape.head_dim
    if shape.window is not None:
        config["sliding_window"] = shape.window
    if shape.rope_factor != 1:
        config["rope_scaling"] = {"rope_type": "linear", "factor": shape.rope_factor}
    return config


def _advice(metadata: Metadata) -> dict[str, Any]:
    keys = {ours: f"general.sampling.{theirs}" for ours, theirs in SAMPLING.items()}
    return {
        ours: checked(ours, metadata.plain(key), f"{metadata.where}: {key}: ")
        for ours, key in keys.items()
        if key in metadata
    }


def _tokenizer_config(metadata: Metadata, shape: Shape) -> dict[str, Any]:
    tokens = metadata.texts("tokenizer.ggml.tokens")
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    numbers = {ours: special_token(metadata, theirs) for ours, theirs in names.items()}
    special = {f"{ours}_token": tokens[n] for ours, n in numbers.items() if n is not None}
    return special | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }


def _weights(file: GgufFile) -> dict[str, NDArray[np.float32]]:
    shape = shape_of(file)
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}
    weights = {}
    for name in file.tensors:
        weight, part = file.read(name), name.split(".")
        if shape.family.interleaved and part[0] == "blk" and part[2] in heads:
            straight = np.empty_like(weight)
            straight[hub_rows(len(weight), heads[part[2]])] = weight
            weight = straight
        weights[_hub_name(name)] = weight
    return weights


def _hub_name(name: str) -> str:
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    match name.split("."):
        case ["blk", layer, part, ("weight" | "bias") as kind] if part in LAYER_NAMES:
            return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"
    raise Refused(f"a model folder has no place for the tensor {name}")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
