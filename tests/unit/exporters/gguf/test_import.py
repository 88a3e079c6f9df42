"""A small GGUF file becomes the model folder it describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from exporters.errors import Refused
from exporters.gguf.folder import write_model_folder
from exporters.model.source import Source

HIDDEN, HEADS, KV_HEADS, INNER = 64, 4, 2, 32
WIDTH = HIDDEN // HEADS
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256)]]
SPACES = [chr(256 + n) for n in range(68)]
MERGES = ["Ġ a", "a b", "1 2", "Ġ 1"]
VOCABULARY = [*TOKENS, *BYTES, *SPACES, "Ġa", "ab", "12", "Ġ1"]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def permuted(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """As llama.cpp's converter does: a head's row i and row i + D/2 come to lie side by side."""
    rows = []
    for head in np.split(weight, heads):
        half = len(head) // 2
        rows += [row for i in range(half) for row in (head[i], head[half + i])]
    return np.array(rows)


def weights() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(11)
    shapes = {
        "token_embd": (len(VOCABULARY), HIDDEN),
        "output_norm": (HIDDEN,),
        "blk.0.attn_norm": (HIDDEN,),
        "blk.0.attn_q": (HIDDEN, HIDDEN),
        "blk.0.attn_k": (KV_HEADS * WIDTH, HIDDEN),
        "blk.0.attn_v": (KV_HEADS * WIDTH, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HIDDEN),
        "blk.0.ffn_norm": (HIDDEN,),
        "blk.0.ffn_gate": (INNER, HIDDEN),
        "blk.0.ffn_up": (INNER, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INNER),
    }
    return {name: random.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def write_gguf(path: Path, tensors: dict[str, NDArray[np.float32]], pre: str = "smollm") -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(VOCABULARY)
    control = [gguf.TokenType.CONTROL] * len(TOKENS)
    writer.add_token_types([*control, *[gguf.TokenType.NORMAL] * (len(VOCABULARY) - len(TOKENS))])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, weight in tensors.items():
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(name.split(".")[-1])
        stored = weight if heads is None else permuted(weight, heads)
        if weight.ndim == 2 and "ffn" in name:
            kind = gguf.GGMLQuantizationType.Q8_0
            stored = gguf.quants.quantize(stored, kind)
            writer.add_tensor(f"{name}.weight", stored, raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf")
    write_gguf(path / "tiny.gguf", weights())
    made = path / "model"
    made.mkdir()
    write_model_folder(path / "tiny.gguf", made)
    return made


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_weights_come_back_in_the_hubs_order_and_names(folder: Path) -> None:
    found, wanted = load_file(folder / "model.safetensors"), weights()
    layer = "model.layers.0"
    exact = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        f"{layer}.self_attn.q_proj": "blk.0.attn_q",
        f"{layer}.self_attn.k_proj": "blk.0.attn_k",
        f"{layer}.self_attn.v_proj": "blk.0.attn_v",
        f"{layer}.self_attn.o_proj": "blk.0.attn_output",
        f"{layer}.input_layernorm": "blk.0.attn_norm",
        f"{layer}.post_attention_layernorm": "blk.0.ffn_norm",
    }
    for ours, theirs in exact.items():
        np.testing.assert_array_equal(found[f"{ours}.weight"], wanted[theirs])
    for part in ("gate", "up", "down"):
        down = found[f"{layer}.mlp.{part}_proj.weight"]
        np.testing.assert_allclose(down, wanted[f"blk.0.ffn_{part}"], atol=0.02)
    assert len(found) == len(wanted)


def test_the_configuration_says_what_the_metadata_say(folder: Path) -> None:
    config = read(folder / "config.json")
    assert config["rms_norm_eps"] == 1e-5
    assert config["tie_word_embeddings"] is True
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (HEADS, KV_HEADS)
    assert config["vocab_size"] == len(VOCABULARY)
    source = Source(folder=folder, origin="tiny")
    source.check()
    reader = source.text_reader()
    assert (reader.bos_token, reader.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert reader.add_bos is False
    assert source.eos_ids(reader) == (2,)
    assert source.chat_template() == TEMPLATE


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("ab a", ["ab", "Ġa"]),
        ("12", ["1", "2"]),  # digits one by one, though the vocabulary holds 12
        (" 1", ["Ġ", "1"]),  # nor with the space before, though it holds that too
        ("<|im_start|>a<|im_end|>", ["<|im_start|>", "a", "<|im_end|>"]),
        ("a  a", ["a", "Ġ", "Ġa"]),
        ("é\n", ["Ã", "©", "Ċ"]),
    ],
)
def test_text_is_split_as_the_metadata_say(folder: Path, text: str, pieces: list[str]) -> None:
    tokenizer = Source(folder=folder, origin="tiny").text_reader().tokenizer
    encoded = tokenizer.encode(text)
    assert encoded.tokens == pieces
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text


def test_a_strange_tensor_is_refused_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "odd.gguf", {**weights(), "blk.0.ssm_in": np.zeros((2, 2), np.float32)})
    with pytest.raises(Refused, match=r"'blk\.0\.ssm_in\.weight', which no llama has"):
        write_model_folder(tmp_path / "odd.gguf", tmp_path)
