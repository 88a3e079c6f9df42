"""Model folders: what is read from them, and what is refused before any long work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters.errors import ExportError, Refused
from tests.unit.exporters.model.source_folders import (
    CONFIG,
    VOCABULARY,
    config,
    remove,
    source,
    tokenizer,
    write_json,
)


def test_a_whole_folder_passes(folder: Path) -> None:
    source(folder).check()
    assert source(folder).parameters() == 19


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_a_shard(folder: Path) -> None:
    index = {"weight_map": {"w": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    write_json(folder / "model.safetensors.index.json", index)


def add_end(folder: Path) -> None:
    tokenizer("<s> $A </s>").save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (config(architectures=["BertForMaskedLM"]), "BertForMaskedLM is no causal LM"),
        (
            config(architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True),
            "encoder-d",
        ),
        (config(architectures=[]), r"config\.json: no architectures"),
        (config(hidden_size=40), "head size 20 is no multiple of 8"),
        (config(head_dim=12), "head size 12 is no multiple of 8"),
        (config(quantization_config={"bits": 4}), "weights are quantised already"),
        (remove("config.json"), r"config\.json: No such file"),
        (remove("tokenizer.json"), r"no tokenizer\.json"),
        (remove("model.safetensors"), r"model\.safetensors: missing weights"),
        (pickle_only, "only pickled weights"),
        (lose_a_shard, "model-00002-of-00002.safetensors: missing weights"),
        (cut, r"model\.safetensors is cut short"),
        (add_end, r"puts \['<s>', '</s>'\] around a text"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_reason(
    folder: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(folder)
    with pytest.raises(ExportError, match=reason) as caught:
        source(folder).check()
    assert "\n" not in str(caught.value)


def spell(name: str, content: object) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / name, content)


def nested(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def latin(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"caf\xe9")


def header(content: object) -> Callable[[Path], None]:
    """A safetensors file whose table is `content`."""

    def write(folder: Path) -> None:
        raw = json.dumps(content).encode()
        data = len(raw).to_bytes(8, "little") + raw
        (folder / "model.safetensors").write_bytes(data)

    return write


def deep_header(folder: Path) -> None:
    raw = b"[" * 100_000
    (folder / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)


def no_tokens(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"] = {}
    write_json(folder / "tokenizer.json", content)


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (nested, r"config\.json: it nests too deep"),
        (spell("config.json", [1]), r"config\.json: not a JSON object"),
        (config(architectures="Llama"), r"config\.json: architectures are no names: 'Llama'"),
        (config(architectures=[["LlamaForCausalLM"]]), "architectures are no names"),
        (config(architectures=["\x1b[31mForCausalLM"]), r"no names: \['\\x1b\[31mForCausalLM'\]"),
        (
            config(num_attention_heads="2"),
            "num_attention_heads must be a whole number above 0, not '2'",
        ),
        (
            config(num_attention_heads=0),
            "num_attention_heads must be a whole number above 0, not 0",
        ),
        (config(head_dim=-8), "head_dim must be a whole number above 0, not -8"),
        (config(hidden_size=[32]), r"hidden_size must be .*, not \[32\]"),
        (
            config(eos_token_id="</s>"),
            r"config\.json: eos_token_id must be token ids, not \['</s>'\]",
        ),
        (config(eos_token_id=[2, -1]), r"eos_token_id must be token ids, not \[2, -1\]"),
        (config(eos_token_id=1 << 70), "eos_token_id must be token ids"),
        (config(eos_token_id=[[2]]), "eos_token_id must be token ids"),
        (
            spell("generation_config.json", {"eos_token_id": True}),
            r"generation_config\.json: eos_to",
        ),
        (spell("tokenizer_config.json", {"bos_token": 1}), "bos_token must be a text, not 1"),
        (spell("tokenizer_config.json", {"eos_token": ["</s>"]}), "eos_token must be a text"),
        (spell("tokenizer_config.json", {"chat_template": {"a": 1}}), "chat_template is no text"),
        (
            spell("tokenizer_config.json", {"chat_template": [{"name": "default", "template": 3}]}),
            "chat_template is no text",
        ),
        (latin, r"chat_template\.jinja: not UTF-8: .* at byte 3"),
        (spell(INDEX, {"weight_map": ["w"]}), "a weight is in no file beside it: None"),
        (spell(INDEX, {"weight_map": {"w": 4}}), "a weight is in no file beside it: 4"),
        (spell(INDEX, {"weight_map": {"w": "../w.safetensors"}}), "in no file beside it: '../w"),
        (header([]), r"model\.safetensors is no safetensors file: not a JSON object"),
        (header({"w": 3}), "the entry of 'w' is none of a tensor"),
        (header({"w": {"shape": [-1], "data_offsets": [0, 0]}}), "the entry of 'w' is none of a"),
        (header({"w": {"shape": [1]}}), "the entry of 'w' is none of a tensor"),
        (header({"w": {"shape": [1], "data_offsets": ["0", 4]}}), "the entry of 'w' is none"),
        (header({"w": {"shape": [1], "data_offsets": [0, 1 << 62]}}), "is cut short"),
        (deep_header, r"model\.safetensors is no safetensors file: it nests"),
        (no_tokens, "the tokenizer cannot encode a text: WordLevel error"),
    ],
)
def test_files_that_hold_anything_are_told_in_a_line(
    folder: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(folder)
    with pytest.raises(ExportError, match=reason) as caught:
        source(folder).check()
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_token_more_than_the_embedding_has_rows_is_refused_by_name(folder: Path) -> None:
    write_json(folder / "config.json", CONFIG | {"vocab_size": len(VOCABULARY)})
    source(folder).check()
    grown = tokenizer()
    grown.add_tokens(["<extra>"])
    grown.save(str(folder / "tokenizer.json"))
    told = r"the tokenizer knows 4 '<extra>', and the model has 4 rows of embeddings: a request"
    with pytest.raises(Refused, match=told):
        source(folder).check()
    # Rows that config.json does not tell are told by the graph.
    write_json(folder / "config.json", CONFIG)
    source(folder).check()
    with pytest.raises(Refused, match=told):
        source(folder).check_vocabulary(4)
    source(folder).check_vocabulary(5)


def test_an_end_without_a_row_is_refused(folder: Path) -> None:
    write_json(folder / "config.json", CONFIG | {"vocab_size": 4, "eos_token_id": [2, 4]})
    with pytest.raises(Refused, match="the end token 4 has no row among 4"):
        source(folder).check()
