"""No key of a GGUF file that changes the model is passed over in silence."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from exporters.errors import ExportError, Refused
from exporters.gguf.file import GgufFile, Metadata
from exporters.gguf.folder import write_description
from exporters.gguf.keys import READ, READ_OF_MODEL, check_keys, notes_on
from exporters.gguf.model import ROPE_FACTORS, shape_of
from exporters.gguf.tokenizer import end_tokens
from tests.unit.exporters.gguf.small import tensors, write_small
from tests.unit.exporters.gguf.test_import import VOCABULARY, weights, write_gguf


class Watched(Metadata):
    """Metadata that remember what they were asked for."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        super().__init__(values, where)
        self.asked: set[str] = set()

    def _get(self, key: str, default: Any) -> Any:
        self.asked.add(key)
        return super()._get(key, default)

    def __contains__(self, key: str) -> bool:
        self.asked.add(key)
        return super().__contains__(key)


@pytest.fixture
def file(tmp_path: Path) -> GgufFile:
    write_gguf(tmp_path / "tiny.gguf", weights())
    return GgufFile(tmp_path / "tiny.gguf")


def changed(file: GgufFile, **changes: Any) -> GgufFile:
    """The file with other metadata; `__` stands for a dot."""
    values = file.metadata._values | {key.replace("__", "."): v for key, v in changes.items()}
    file.metadata = Metadata({k: v for k, v in values.items() if v is not None}, "tiny.gguf")
    return file


def told(file: GgufFile, key: str, value: Any) -> None:
    file.metadata = Metadata({**file.metadata._values, key: value}, "tiny.gguf")
    shape_of(file)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, 1.0),
        ({"llama__rope__scaling__factor": 4.0}, 4.0),
        ({"llama__rope__scale_linear": 2.0}, 2.0),
        ({"llama__rope__scaling__type": "linear"}, 1.0),
        ({"llama__rope__scaling__factor": 4.0, "llama__rope__scale_linear": 2.0}, 4.0),
        ({"llama__rope__scaling__factor": 0.0, "llama__rope__scale_linear": 2.0}, 1.0),
        ({"llama__rope__scaling__type": "none", "llama__rope__scaling__factor": 4.0}, 1.0),
    ],
)
def test_rotary_scaling_is_read_as_llama_cpp_reads_it(
    file: GgufFile, tmp_path: Path, changes: dict[str, Any], factor: float
) -> None:
    assert shape_of(changed(file, **changes)).rope_factor == factor
    write_description(file, tmp_path, ends=end_tokens(file.metadata))
    config = json.loads((tmp_path / "config.json").read_text())
    scaling = {"rope_type": "linear", "factor": factor}
    assert config.get("rope_scaling") == (None if factor == 1 else scaling)


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan"), 4, "4"])
def test_a_scaling_factor_that_is_none_is_told(file: GgufFile, value: object) -> None:
    with pytest.raises(ExportError, match=r"scaling\.factor is no number from zero on"):
        shape_of(changed(file, llama__rope__scaling__factor=value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.attention.causal", False),
        ("llama.rope.scaling.attn_factor", 0.5),
        ("llama.rope.scaling.alpha", 1000.0),
        ("llama.attention.clamp_kqv", 8.0),
        ("llama.attn_logit_softcapping", 50.0),
        ("llama.final_logit_softcapping", 30.0),
        ("llama.logit_scale", 0.0625),
        ("llama.embedding_scale", 12.0),
        ("llama.residual_scale", 0.22),
        ("llama.pooling_type", 3),
        ("llama.use_parallel_residual", True),
        ("llama.nextn_predict_layers", 1),
        ("llama.hidden_activation", "gelu"),
        ("llama.tensor_data_layout", "jploski"),
        ("tokenizer.ggml.remove_extra_whitespaces", True),
        ("tokenizer.ggml.suppress_tokens", np.array([3], np.int32)),
        ("general.type", "adapter"),
        ("general.quantization_version", 1),
    ],
)
def test_keys_that_change_the_model_are_refused_by_name_and_value(
    file: GgufFile, key: str, value: Any
) -> None:
    with pytest.raises(Refused) as caught:
        told(file, key, value)
    message = str(caught.value)
    assert message.startswith(f"tiny.gguf: '{key}' is '")
    assert message.endswith("', which changes the model and is not followed here")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.attention.causal", True),
        ("llama.rope.scaling.attn_factor", 1.0),
        ("llama.rope.scaling.original_context_length", 4096),
        ("llama.expert_used_count", 0),
        ("llama.vocab_size", 7),
        ("llama.tensor_data_layout", "Meta AI original pth"),
        ("tokenizer.ggml.suppress_tokens", np.array([], np.int32)),
        ("tokenizer.ggml.fim_pre_token_id", 5),
        ("general.base_model.0.name", "Base"),
        ("general.license.link", "https://example.org"),
        ("general.file_type", 15),
        ("split.count", 1),
        ("quantize.imatrix.file", "calibration.dat"),
    ],
)
def test_keys_that_change_nothing_are_let_through(file: GgufFile, key: str, value: Any) -> None:
    told(file, key, value)
    assert list(notes_on(file.metadata)) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "llama.attention.new_thing",
            1,
            "what 'llama.attention.new_thing' does to the model is not",
        ),
        ("llama.rope.dimension_sections", np.zeros(4, np.int32), "rope.dimension_sections' does"),
        ("llama.classifier.output_labels", ["yes"], "classifier.output_labels' does to the model"),
        (
            "tokenizer.ggml.precompiled_charsmap",
            np.zeros(4, np.uint8),
            "precompiled_charsmap' does",
        ),
        ("tokenizer.rwkv.world", "x", "'tokenizer.rwkv.world' does to the model is not known"),
        ("general.tensor_extra.name", ["a"], "'general.tensor_extra.name' does to the model"),
        ("adapter.lora.alpha", 16.0, "'adapter.lora.alpha' does to the model is not known"),
        (
            "qwen3.rope.freq_base",
            1e6,
            "'qwen3.rope.freq_base' is of another architecture than llama",
        ),
        ("split.count", 3, "tiny.gguf is one of '3' files of a model; llama-gguf-split --merge"),
        ("llama.\x1b[31m", 1, r"what 'llama.\\x1b\[31m' does to the model"),
    ],
)
def test_keys_that_nobody_knows_are_refused_by_name(
    file: GgufFile, key: str, value: Any, message: str
) -> None:
    with pytest.raises(Refused, match=message) as caught:
        told(file, key, value)
    assert "\x1b" not in str(caught.value)


def test_a_window_is_a_llamas_alone(tmp_path: Path) -> None:
    file = GgufFile(write_small(tmp_path / "small.gguf", tensors()))
    shape_of(changed(file, qwen2__attention__sliding_window=0))
    with pytest.raises(Refused, match=r"qwen2\.attention\.sliding_window; only a llama's window"):
        shape_of(changed(file, qwen2__attention__sliding_window=4096))


def test_frequencies_factors_are_a_llamas_and_above_zero(tmp_path: Path) -> None:
    made = tensors() | {ROPE_FACTORS: np.ones(16, np.float32)}
    with pytest.raises(Refused, match=r"'rope_freqs\.weight', which no qwen2 has"):
        shape_of(GgufFile(write_small(tmp_path / "small.gguf", made)))
    write_gguf(tmp_path / "llama.gguf", weights() | {"rope_freqs": np.zeros(8, np.float32)})
    with pytest.raises(ExportError, match=r"rope_freqs\.weight holds what is not above zero"):
        shape_of(GgufFile(tmp_path / "llama.gguf"))


def test_what_is_said_to_be_read_is_read(tmp_path: Path) -> None:
    """And nothing else is: a key in the table that nobody asks for would be passed over."""
    write_gguf(tmp_path / "tiny.gguf", weights())
    file = GgufFile(tmp_path / "tiny.gguf")
    asked: set[str] = set()
    pieces = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": np.zeros(len(VOCABULARY))}
    for changes in ({}, pieces):
        metadata = file.metadata = Watched({**file.metadata._values, **changes}, "tiny.gguf")
        write_description(file, tmp_path, ends=end_tokens(metadata))
        asked |= metadata.asked
    read = {f"{space}.{name}" for space, names in READ.items() for name in names}
    read |= {f"llama.{name}" for name in READ_OF_MODEL}
    elsewhere = {
        *(
            "general.alignment",
            "general.license",
            "general.name",
        ),  # as the file is opened and named
        *("general.source.url", "general.source.repo_url"),
    }
    assert read - elsewhere == {key for key in asked if not key.startswith("general.tensor")}


def constants() -> list[str]:
    """The keys that the format's own package has names for."""
    groups = [group for group in vars(gguf.Keys).values() if isinstance(group, type)]
    values = [value for group in groups for value in vars(group).values()]
    keys = [v for v in values if isinstance(v, str) and "." in v and "gguf" not in v]
    fields = {"arch": "llama", "id": 0, "dense": "dense_2"}
    return [key.format_map(defaultdict(lambda: 0, fields)) for key in keys]


PASSED = {"llama.vocab_size", "llama.rope.scaling.original_context_length"}
PASSED |= {"llama.rope.scaling.finetuned"}


def test_every_key_that_the_formats_own_package_knows_is_decided() -> None:
    """Of those of the model, none but the read ones comes through at a value of no meaning."""
    keys = constants()
    assert len(keys) > 150
    through = set()
    for key in keys:
        try:
            check_keys(Metadata({key: "no meaning"}, "tiny.gguf"), "llama")
        except Refused:
            continue
        through.add(key)
    of_model = {key for key in through if key.startswith("llama.")}
    assert of_model - PASSED <= {f"llama.{name}" for name in READ_OF_MODEL}
    assert len(of_model) < sum(key.startswith("llama.") for key in keys) / 2


def test_advice_and_templates_that_nobody_follows_are_told(file: GgufFile) -> None:
    changed(
        file,
        general__sampling__mirostat=2,
        general__sampling__mirostat_tau=5.0,
        general__sampling__xtc_probability=0.0,
        general__sampling__xtc_threshold=0.1,
        tokenizer__chat_template__tool_use="{{ tools }}",
        tokenizer__chat_template__rag="{{ documents }}",
        maker__of_it="\x1b[31mme",
    )
    shape_of(file)
    assert list(notes_on(file.metadata)) == [
        "not followed here: the makers' advice general.sampling.mirostat='2',"
        " general.sampling.mirostat_tau='5.0'",
        "chat templates besides the default one are left aside: 'rag'",
        "keys that no loader of this format reads: 'maker.of_it'",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("temp", -1.0, "general.sampling.temp: temperature must be at least 0.0 and at most 10.0"),
        ("top_p", 1.5, "general.sampling.top_p: top_p must be"),
        ("top_k", -3, "general.sampling.top_k: top_k must be at least 0"),
        ("penalty_repeat", 0.0, "penalty_repeat: repetition_penalty must be above 0"),
        ("min_p", "much", "general.sampling.min_p: min_p must be a number, not 'much'"),
    ],
)
def test_advice_out_of_bounds_is_refused(
    file: GgufFile, tmp_path: Path, key: str, value: object, message: str
) -> None:
    changed(file, **{f"general__sampling__{key}": value})
    with pytest.raises(Refused, match=message):
        write_description(file, tmp_path, ends=[2])


def test_greedy_advice_is_taken(file: GgufFile, tmp_path: Path) -> None:
    changed(file, general__sampling__temp=0.0, general__sampling__top_k=0)
    write_description(file, tmp_path, ends=[2])
    advice = json.loads((tmp_path / "generation_config.json").read_text())
    assert (advice["temperature"], advice["top_k"]) == (0.0, 0)


def test_more_tokens_than_rows_are_refused_by_name(tmp_path: Path) -> None:
    tokens = [*VOCABULARY, "<extra>"]
    file = changed(written(tmp_path), tokenizer__ggml__tokens=tokens)
    types = np.ones(len(tokens), np.int32)
    changed(file, tokenizer__ggml__token_type=types)
    told = rf"knows {len(VOCABULARY)} '<extra>', and the model has {len(VOCABULARY)} rows"
    with pytest.raises(Refused, match=told):
        write_description(file, tmp_path, ends=[2])
    changed(file, tokenizer__ggml__tokens=[*VOCABULARY[:-1], "ab"])
    changed(file, tokenizer__ggml__token_type=types[:-1])
    with pytest.raises(ExportError, match="two tokens are 'ab'"):
        write_description(file, tmp_path, ends=[2])


def written(folder: Path) -> GgufFile:
    write_gguf(folder / "tiny.gguf", weights())
    return GgufFile(folder / "tiny.gguf")
