"""A small Qwen2 in a GGUF file, whose keys can be made as uneven as a test wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

HIDDEN, INNER, LAYERS = 64, 64, 2
HEADS, KV_HEADS, WIDTH = 4, 2, 32
CONTEXT = 512
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256)]]
SPACES = [chr(256 + n) for n in range(68)]
VOCABULARY = [*SPECIAL, *BYTES, *SPACES, "Ġa"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


def tensors(*, outlier: float = 0.0, contrast: float = 1.0) -> dict[str, NDArray[np.float32]]:
    """Random weights. `outlier` is added to a channel of each head's keys; `contrast` is how far
    apart logits lie, and so how little rounding changes what is most probable."""
    random = np.random.default_rng(7)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> NDArray[np.float32]:
        numbers = random.standard_normal((rows, columns)) * scale / np.sqrt(columns)
        return numbers.astype(np.float32)

    made = {
        "token_embd.weight": matrix(len(VOCABULARY), HIDDEN, contrast),
        "output_norm.weight": np.ones(HIDDEN, np.float32),
    }
    for layer in range(LAYERS):
        keys = np.zeros((KV_HEADS, WIDTH), np.float32)
        keys[:, WIDTH // 2 - 1] = outlier
        made |= {
            f"blk.{layer}.{name}": tensor
            for name, tensor in {
                "attn_norm.weight": np.ones(HIDDEN, np.float32),
                "attn_q.weight": matrix(HEADS * WIDTH, HIDDEN),
                "attn_k.weight": matrix(KV_HEADS * WIDTH, HIDDEN),
                "attn_v.weight": matrix(KV_HEADS * WIDTH, HIDDEN),
                "attn_q.bias": np.zeros(HEADS * WIDTH, np.float32),
                "attn_k.bias": keys.reshape(-1),
                "attn_v.bias": np.zeros(KV_HEADS * WIDTH, np.float32),
                "attn_output.weight": matrix(HIDDEN, HEADS * WIDTH),
                "ffn_norm.weight": np.ones(HIDDEN, np.float32),
                "ffn_gate.weight": matrix(INNER, HIDDEN),
                "ffn_up.weight": matrix(INNER, HIDDEN),
                "ffn_down.weight": matrix(HIDDEN, INNER),
            }.items()
        }
    return made


def write_small(
    path: Path, weights: dict[str, NDArray[np.float32]], *, tokens: list[str] = VOCABULARY
) -> Path:
    """Write the model to `path`."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(WIDTH)
    writer.add_value_length(WIDTH)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    sorts: list[Any] = [gguf.TokenType.CONTROL] * len(SPECIAL)
    writer.add_token_types([*sorts, *[gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIAL))])
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in weights.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
