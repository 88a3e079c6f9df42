"""Model folders: what is read from them, and what is refused before any long work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from exporters.errors import ExportError, Refused
from exporters.model.hub import bundle_name, find_source
from exporters.model.source import TOOL_TEMPLATE, Source

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_attention_heads": 2,
    "hidden_size": 32,
    "eos_token_id": 2,
}
VOCABULARY = {"a": 0, "<s>": 1, "</s>": 2, "<|end|>": 3}


def tokenizer(template: str | None = None) -> Tokenizer:
    made = Tokenizer(models.WordLevel(VOCABULARY, unk_token="a"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<s>", "</s>", "<|end|>"])
    if template is not None:
        special = [("<s>", 1), ("</s>", 2)]
        made.post_processor = processors.TemplateProcessing(template, special_tokens=special)
    return made


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "Tiny Model"
    path.mkdir()
    write_json(path / "config.json", CONFIG)
    write_json(path / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer().save(str(path / "tokenizer.json"))
    save_file(
        {"w": np.zeros((3, 5), np.float32), "b": np.zeros(4, np.float32)},
        path / "model.safetensors",
    )
    return path


def source(folder: Path) -> Source:
    return Source(folder=folder, origin="tiny")


def test_a_whole_folder_passes(folder: Path) -> None:
    source(folder).check()
    assert source(folder).parameters() == 19


def config(**changes: object) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / "config.json", CONFIG | changes)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


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


@pytest.mark.parametrize(
    ("advice", "reason"),
    [
        ({"temperature": -0.1}, "temperature must be at least 0.0 and at most 10.0, not -0.1"),
        ({"temperature": float("nan")}, "temperature must be .*, not nan"),
        ({"temperature": 10**400}, "temperature must be at least 0.0 and at most 10.0"),
        ({"temperature": "0.6"}, "temperature must be a number, not '0.6'"),
        ({"temperature": True}, "temperature must be a number, not True"),
        ({"top_p": 1.01}, "top_p must be .* at most 1.0, not 1.01"),
        ({"top_p": -0.1}, "top_p must be .* at most 1.0, not -0.1"),
        ({"top_k": -1}, "top_k must be at least 0 .*, not -1"),
        ({"top_k": 2.5}, "top_k must be a whole number, not 2.5"),
        ({"top_k": [50]}, r"top_k must be a whole number, not \[50\]"),
        ({"min_p": 2}, "min_p must be at least 0.0 and at most 1.0, not 2"),
        ({"typical_p": 1.5}, "typical_p must be at least 0.0 and at most 1.0, not 1.5"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be at least 0"),
        ({"no_repeat_ngram_size": 2.0}, "no_repeat_ngram_size must be a whole number, not 2.0"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0.0"),
        ({"repetition_penalty": {"a" * 99: 1}}, "repetition_penalty must be a number, not {'aa"),
    ],
)
def test_advice_out_of_bounds_is_refused_by_key_value_and_bounds(
    folder: Path, advice: dict[str, object], reason: str
) -> None:
    write_json(folder / "generation_config.json", advice)
    with pytest.raises(Refused, match=rf"generation_config\.json: {reason}") as caught:
        source(folder).check()
    assert len(str(caught.value)) < 700


def test_advice_that_nobody_follows_is_told(folder: Path) -> None:
    advice = {"num_beams": 1, "typical_p": 1.0, "bad_words_ids": None, "min_length": 0}
    write_json(folder / "generation_config.json", advice | {"do_sample": True})
    assert source(folder).notes() == ()
    write_json(folder / "generation_config.json", advice | {"num_beams": 4, "do_sample": False})
    (note,) = source(folder).notes()
    assert note == "not followed here: the makers' advice num_beams=4, do_sample=False"


def test_no_end_of_sequence_is_refused(folder: Path) -> None:
    write_json(folder / "config.json", {k: v for k, v in CONFIG.items() if k != "eos_token_id"})
    write_json(folder / "tokenizer_config.json", {})
    with pytest.raises(Refused, match="no end-of-sequence token"):
        source(folder).check()


@pytest.mark.parametrize(("template", "adds"), [(None, False), ("<s> $A", True), ("$A", False)])
def test_bos_is_added_where_the_tokenizer_really_does(
    folder: Path, template: str | None, adds: bool
) -> None:
    tokenizer(template).save(str(folder / "tokenizer.json"))
    reader = source(folder).text_reader()
    assert reader.add_bos is adds
    assert reader.encode(reader.plain("a")) == ([1, 0] if adds else [0])


@pytest.mark.parametrize(
    ("generation", "eos", "ids"),
    [
        ({}, "</s>", (2,)),
        ({"eos_token_id": 3}, "</s>", (3, 2)),
        ({"eos_token_id": [3, 2]}, "</s>", (3, 2)),
        ({}, {"content": "<|end|>"}, (2, 3)),
    ],
)
def test_every_id_that_ends_a_text_is_known(
    folder: Path, generation: dict[str, Any], eos: object, ids: tuple[int, ...]
) -> None:
    write_json(folder / "generation_config.json", generation)
    write_json(folder / "tokenizer_config.json", {"eos_token": eos})
    model = source(folder)
    assert model.eos_ids(model.text_reader()) == ids


def test_the_template_comes_from_its_file_or_the_tokenizers_settings(folder: Path) -> None:
    assert source(folder).chat_template() is None
    assert source(folder).tool_template() is None
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    write_json(folder / "tokenizer_config.json", {"chat_template": named})
    assert source(folder).chat_template() == "D"
    assert source(folder).tool_template() == "T"
    write_json(folder / "tokenizer_config.json", {"chat_template": "S"})
    assert source(folder).chat_template() == "S"
    assert source(folder).tool_template() is None
    (folder / "chat_template.jinja").write_text("F")
    assert source(folder).chat_template() == "F"
    (folder / TOOL_TEMPLATE).parent.mkdir()
    (folder / TOOL_TEMPLATE).write_text("U")
    assert source(folder).tool_template() == "U"


def test_templates_are_told_which_special_tokens_there_are(folder: Path) -> None:
    special = {"eos_token": "<e>", "unk_token": {"content": "<u>"}, "pad_token": "<p>"}
    write_json(folder / "tokenizer_config.json", special)
    named = {"eos_token": "<e>", "unk_token": "<u>", "pad_token": "<p>"}
    assert source(folder).text_reader().special == named


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for", "the chat template fails: "),
        ("{{ raise_exception('no\x1b such turn') }}", "the chat template fails: no"),
        ("{{ 1 / 0 }}", "the chat template fails: ZeroDivisionError"),
        ("{{ messages.x.y }}", "the chat template fails: "),
        ("{% for i in range(10 ** 9) %}a{% endfor %}", "the chat template fails: "),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "the chat template fails: "),
    ],
)
def test_a_template_that_fails_is_told(folder: Path, template: str, reason: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ExportError, match=reason):
        source(folder).text_reader().chat([], add_generation_prompt=True)


def test_advice_on_sampling_is_taken_over(folder: Path) -> None:
    advice = {"temperature": 0.6, "top_k": 20, "do_sample": True, "pad_token_id": 0}
    advice |= {"typical_p": 0.9, "no_repeat_ngram_size": 3}
    write_json(folder / "generation_config.json", advice)
    defaults = source(folder).defaults()
    assert (defaults.temperature, defaults.top_k, defaults.top_p) == (0.6, 20, 1.0)
    assert (defaults.typical_p, defaults.no_repeat_ngram_size) == (0.9, 3)
    assert msgspec.to_builtins(defaults) == {
        "temperature": 0.6,
        "top_k": 20,
        "typical_p": 0.9,
        "no_repeat_ngram_size": 3,
    }


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# M", "Apache-2.0"),
        ("---\nlicense: 'gemma'\n---\n", "gemma"),
        ("# No head\nlicense: mit\n", "unknown"),
        ("---\nlicense: m\x1b[31mit\n---\n", "m\\x1b[31mit"),
        (None, "unknown"),
    ],
)
def test_the_licence_is_what_the_card_states(folder: Path, card: str | None, licence: str) -> None:
    if card is not None:
        (folder / "README.md").write_text(card)
    assert source(folder).licence() == licence


def test_a_folders_name_is_told_without_control_characters(folder: Path) -> None:
    odd = folder.rename(folder.with_name("Tiny\x1b[2J\nModel"))
    assert find_source(str(odd), None).origin == "Tiny\\x1b[2J\\nModel"


def test_a_folder_is_found_by_its_path(folder: Path) -> None:
    found = find_source(str(folder), None)
    assert (found.folder, found.origin) == (folder, "Tiny Model")
    with pytest.raises(ExportError, match="--revision is for the hub"):
        find_source(str(folder), "main")
    with pytest.raises(ExportError, match="neither a model folder nor a hub"):
        find_source(str(folder / "config.json"), None)
    with pytest.raises(ExportError, match="neither a model folder nor a hub"):
        find_source("./nowhere/at/all", None)


@pytest.mark.parametrize(
    ("text", "name"),
    [("org/Qwen2.5-0.5B", "qwen2.5-0.5b"), ("/m/Tiny Model/", "tiny-model"), ("x/_a_", "a")],
)
def test_a_bundle_is_named_after_its_model(text: str, name: str) -> None:
    assert bundle_name(text, exact=False) == name


def test_an_impossible_name_is_refused() -> None:
    assert bundle_name("mine", exact=True) == "mine"
    with pytest.raises(ExportError, match="'Mine' is no name for a bundle"):
        bundle_name("Mine", exact=True)
    with pytest.raises(ExportError, match="give one with --name"):
        bundle_name("/models/你好", exact=False)
