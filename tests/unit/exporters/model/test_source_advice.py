"""A model folder beside its weights: ends, templates, sampling, licence, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporters.errors import ExportError, Refused
from exporters.model.hub import bundle_name, find_source
from exporters.model.source import TOOL_TEMPLATE
from tests.unit.exporters.model.source_folders import (
    CONFIG,
    source,
    tokenizer,
    write_json,
)


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
