"""Folders of encoders: what is read from them, and what is refused by name before any weight is
read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, processors

from exporters.encoder.texts import fidelity_texts, golden_texts, reader_of
from exporters.errors import ExportError, Refused
from exporters.model.encoder import is_encoder, read_shape
from exporters.model.source import Source
from exporters.model.texts import lines_of
from nsedge.bundle.headed import TokenClassification

CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 8,
    "max_position_embeddings": 64,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
MODULES = ("Transformer", "Pooling", "Normalize")


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    write_json(path / "config.json", CONFIG)
    write_modules(path, *MODULES)
    write_json(path / "sentence_bert_config.json", {"max_seq_length": 48})
    write_json(path / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    write_tokenizer(path)
    save_file({"w": np.zeros((3, 5), np.float32)}, path / "model.safetensors")
    return path


def write_modules(folder: Path, *kinds: str) -> None:
    modules = [
        {"path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)


def write_tokenizer(folder: Path, *, tokens: int = 8) -> None:
    vocabulary = {
        name: i for i, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"])
    }
    known = {name: i for name, i in vocabulary.items() if i < tokens}
    made = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    made.add_special_tokens(["[CLS]", "[SEP]"])
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(folder / "tokenizer.json"))


def source(folder: Path) -> Source:
    return Source(folder=folder, origin="tiny")


def config(**changes: object) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / "config.json", CONFIG | changes)


def modules(*kinds: str) -> Callable[[Path], None]:
    return lambda folder: write_modules(folder, *kinds)


def file(name: str, content: object) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / name, content)


def pooling(**settings: object) -> Callable[[Path], None]:
    return file("1_Pooling/config.json", settings)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def test_a_whole_folder_is_read(folder: Path) -> None:
    shape = read_shape(source(folder))
    assert is_encoder(source(folder))
    assert (shape.layers, shape.heads, shape.hidden, shape.vocabulary) == (1, 2, 32, 8)
    assert (shape.pooling, shape.normalised, shape.context_length) == ("mean", True, 48)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_every_spelling_of_pooling_is_read(
    folder: Path, settings: dict[str, object], found: str
) -> None:
    pooling(**settings)(folder)
    assert read_shape(source(folder)).pooling == found


def test_a_text_is_as_long_as_everything_allows(folder: Path) -> None:
    assert read_shape(source(folder), max_context=20).context_length == 20
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 512})
    assert read_shape(source(folder)).context_length == 64  # its table of positions
    write_json(folder / "tokenizer_config.json", {"model_max_length": 32})
    assert read_shape(source(folder)).context_length == 32


def test_positions_behind_the_padding_token_are_fewer(folder: Path) -> None:
    changed = {"model_type": "roberta", "architectures": ["RobertaModel"], "pad_token_id": 1}
    config(**changed)(folder)
    remove("sentence_bert_config.json")(folder)
    shape = read_shape(source(folder))
    assert (shape.first_position, shape.context_length) == (2, 62)


def test_a_model_without_modules_is_an_encoder_if_its_head_is_known_or_none(folder: Path) -> None:
    remove("modules.json")(folder)
    assert is_encoder(source(folder))
    shape = read_shape(source(folder))
    assert (shape.pooling, shape.normalised) == ("mean", False)
    config(architectures=["BertForTokenClassification"], id2label={"0": "O"})(folder)
    assert is_encoder(source(folder))
    assert read_shape(source(folder)).head == TokenClassification(labels=("O",))
    for changed in (
        {"architectures": ["BertForQuestionAnswering"]},
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
    ):
        config(**changed)(folder)
        assert not is_encoder(source(folder))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (config(model_type="xlnet", architectures=["XLNetModel"]), r"XLNetModel \(xlnet\) is no"),
        (config(hidden_act="relu"), "the activation 'relu' has no form here"),
        (config(position_embedding_type="relative_key"), "positions are 'relative_key'"),
        (config(is_decoder=True), "BertModel is set up as a decoder"),
        (config(num_attention_heads=3), "3 heads do not divide 32 numbers"),
        (
            config(num_hidden_layers=None),
            "num_hidden_layers must be a whole number above 0",
        ),
        (config(quantization_config={}), "quantised already"),
        (modules("Transformer", "Pooling", "Dense"), "the module Dense has no form here"),
        (modules("Transformer", "Normalize", "Pooling"), "Transformer, Normalize, Pooling: to be"),
        (modules("Transformer"), "Transformer: to be Transformer, Pooling"),
        (file("modules.json", [{"path": "0_T", "type": "x.Transformer"}] * 2), "to be Trans"),
        (pooling(pooling_mode_max_tokens=True), "pooling by 'max' has no form here"),
        (pooling(pooling_mode_mean_sqrt_len_tokens=True), "pooling by 'mean_sqrt_len' has no form"),
        (pooling(pooling_mode_weightedmean_tokens=True), "pooling by 'weightedmean' has no form"),
        (
            pooling(pooling_mode_mean_tokens=True, pooling_mode_cls_token=True),
            "pooling by mean and cls: one way is to be stated",
        ),
        (pooling(), "pooling by nothing: one way is to be stated"),
        (file("sentence_bert_config.json", {"do_lower_case": True}), "do_lower_case is set"),
        (
            file("config_sentence_transformers.json", {"default_prompt_name": "query"}),
            "every text gets the prompt 'query'",
        ),
        (file("modules.json", [1, 2]), "the module None has no form here"),
        (config(pad_token_id=9), "pad_token_id must be a token's id, not 9"),
        (config(layer_norm_eps="no"), "layer_norm_eps must be from 0 to 1, not 'no'"),
        (file("sentence_bert_config.json", {"max_seq_length": 0}), "max_seq_length must be a"),
        (file("tokenizer_config.json", {"model_max_length": "x"}), "model_max_length must be a"),
        (remove("tokenizer.json"), "no tokenizer.json"),
        (remove("model.safetensors"), "missing weights"),
    ],
)
def test_what_has_no_form_is_refused_by_name(
    folder: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(folder)
    with pytest.raises(Refused, match=reason):
        read_shape(source(folder))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (remove("1_Pooling/config.json"), r"1_Pooling/config\.json: No such file"),
        (file("modules.json", {}), r"modules\.json: not a JSON list"),
    ],
)
def test_a_damaged_folder_is_told(folder: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(folder)
    with pytest.raises(ExportError, match=reason):
        read_shape(source(folder))


def test_a_tokenizer_must_fit_the_model(folder: Path) -> None:
    reader = reader_of(source(folder), context_length=48, vocab_size=8)
    assert reader.read(["a"], truncate=False) == [(2, 4, 3)]
    write_tokenizer(folder, tokens=9)
    with pytest.raises(Refused, match="the tokenizer knows 8 'e', and the model has 8 rows"):
        reader_of(source(folder), context_length=48, vocab_size=8)


def test_our_texts_are_short_and_long_and_differ() -> None:
    texts = fidelity_texts()
    assert len(texts) == len(set(texts)) >= 50
    assert min(map(len, texts)) < 20 < 1000 < max(map(len, texts))
    assert len(golden_texts()) >= 4


def test_lines_of_a_file_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("one\n\n  two \n")
    assert lines_of(path, "text") == ("one", "two")
    path.write_text("\n")
    with pytest.raises(ExportError, match="no text; one a line"):
        lines_of(path, "text")
    path.write_bytes(b"\xff")
    with pytest.raises(ExportError, match="texts"):
        lines_of(path, "text")
