"""Captioners' folders: graphs make what PyTorch makes, and become bundles that the daemon opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from exporters.__main__ import main
from exporters.caption.records import runner_of
from exporters.caption.reference import make_reference
from exporters.caption.trial import pixels_of
from exporters.caption.variant import write_variant
from exporters.conditioned.records import ConditionedRecord
from exporters.errors import Refused
from exporters.measure.runner import log_softmax
from exporters.model.caption import read_caption_shape, read_writing
from exporters.model.source import Source
from exporters.quantise.schemes import SCHEMES
from nsedge import native
from nsedge.bundle.caption import Caption, Search
from nsedge.bundle.manifest import Bundle
from tests.export.tiny_captioner import LENGTH, SIDE, make_captioner, write_captioner_folder

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

NATIVE = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = write_captioner_folder(tmp_path_factory.mktemp("models") / "tiny")
    return Source(folder=folder, origin="tiny")


@pytest.fixture(scope="module")
def reference(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference")
    make_reference(source, out)
    return out


SAME_WIDTH = {"eye": {"hidden_size": 64, "num_attention_heads": 4}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder": "deit", **SAME_WIDTH},
        {"eye": {"qkv_bias": False, "hidden_act": "gelu_new"}, "activation_function": "gelu"},
    ],
    ids=["vit", "deit of the decoder's width", "other activations"],
)
def test_the_graphs_are_within_1e_4_of_torch(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = write_captioner_folder(tmp_path / "model", **changes)
    (tmp_path / "out").mkdir()
    make_reference(Source(folder=folder, origin="model"), tmp_path / "out")
    record = ConditionedRecord.read(tmp_path / "out")
    assert record.states_difference < 1e-4
    assert record.difference < 1e-4


def test_captions_are_those_that_transformers_writes(source: Source, reference: Path) -> None:
    shape, model = read_caption_shape(source), make_captioner()
    writing, runner = read_writing(source, shape), runner_of(reference, shape.decoder)
    texts = set()
    for number in range(6):
        pixels = pixels_of(number, shape.steps)
        runner.encode(pixels)
        found = runner.greedy(
            (writing.start_id,), ends=writing.eos_ids, most=writing.max_length - 1
        )
        with torch.no_grad():
            (wanted,) = model.generate(
                torch.from_numpy(pixels[None]), max_length=LENGTH, num_beams=1, do_sample=False
            ).tolist()
        assert [writing.start_id, *found] == wanted
        texts.add(found)
    assert len(texts) > 1


def test_rows_about_other_pictures_decode_together_as_torch_does_alone(
    source: Source, reference: Path
) -> None:
    shape, model = read_caption_shape(source), make_captioner()
    runner = runner_of(reference, shape.decoder)
    random = np.random.default_rng(3)
    pictures = random.standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)
    rows = [random.integers(0, shape.decoder.vocabulary, n).tolist() for n in (4, 17, 9)]
    for row in (2, 0, 1):
        runner.encode(pictures[row], row)
    found = runner.steps(rows, [1, 1, 1])
    with torch.no_grad():
        states = model.encoder(torch.from_numpy(pictures)).last_hidden_state
        for row, ids in enumerate(rows):
            encoded = BaseModelOutput(last_hidden_state=states[row : row + 1])
            logits = model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([ids])).logits
            assert np.abs(log_softmax(found[row]) - log_softmax(logits[0].numpy())).max() < 1e-4


@pytest.mark.parametrize("native_form", [False, pytest.param(True, marks=NATIVE)])
def test_a_quantised_form_is_near_fp32(
    source: Source, reference: Path, tmp_path: Path, native_form: bool
) -> None:
    shape = read_caption_shape(source)
    write_variant(reference, tmp_path, scheme=SCHEMES["int8-b64"])
    exact = runner_of(reference, shape.decoder)
    runner = runner_of(tmp_path, shape.decoder, scheme="int8-b64", native=native_form)
    random = np.random.default_rng(4)
    rows = [random.integers(0, shape.decoder.vocabulary, n).tolist() for n in (12, 7)]
    for row in range(2):
        states = exact.encode(pixels_of(row, shape.steps), row)
        near = runner.encode(pixels_of(row, shape.steps), row)
        assert np.corrcoef(states.ravel(), near.ravel())[0, 1] > 0.99
    for wanted, got in zip(exact.steps(rows, [3, 5]), runner.steps(rows, [3, 5]), strict=True):
        kept = np.exp(log_softmax(wanted)) * (log_softmax(wanted) - log_softmax(got))
        assert kept.sum(-1).max() < 0.2


def test_how_captions_are_written_is_read_of_configurations(source: Source) -> None:
    writing = read_writing(source, read_caption_shape(source))
    assert (writing.start_id, writing.eos_ids, writing.pad_id) == (256, (256,), 256)
    assert (writing.max_length, writing.search) == (LENGTH, Search(beams=4))
    assert writing.defaults.temperature == 0.0
    assert writing.notes == ()


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"do_sample": True, "temperature": 0.7}, {"temperature": 0.7}),
        ({"no_repeat_ngram_size": 3}, {"temperature": 0.0, "no_repeat_ngram_size": 3}),
    ],
)
def test_advice_of_the_makers_is_followed(
    source: Source, tmp_path: Path, stated: dict[str, Any], told: dict[str, Any]
) -> None:
    folder = write_captioner_folder(tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps(stated | {"min_length": 3}))
    other = Source(folder=folder, origin="other")
    writing = read_writing(other, read_caption_shape(other))
    for name, value in told.items():
        assert getattr(writing.defaults, name) == value
    assert (writing.max_length, writing.search.beams) == (20, 1)
    assert writing.notes == ("not followed here: the makers' advice min_length=3",)


def test_what_has_no_form_is_refused_by_name(source: Source, tmp_path: Path) -> None:
    folder = write_captioner_folder(tmp_path / "odd")
    plain = json.loads((source.folder / "config.json").read_text())
    for side, change, told in (
        ("decoder", {"model_type": "trocr"}, "the decoder 'trocr' has no form here"),
        ("encoder", {"model_type": "swin"}, "the encoder 'swin' has no form here"),
        ("decoder", {"add_cross_attention": False}, "add_cross_attention of the decoder must be"),
        ("decoder", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("decoder", {"n_head": 8}, "8 heads of the decoder are not of a multiple of 16"),
        ("decoder", {"activation_function": "relu"}, "activation_function .* 'relu' has no form"),
        ("decoder", {"tie_word_embeddings": False}, "tie_word_embeddings of the decoder must"),
        ("encoder", {"num_channels": 1}, "the encoder reads 1 channels"),
        ("encoder", {"image_size": 64}, "pictures come out as 36 x 36"),
        ("encoder", {"hidden_size": 0}, "hidden_size of the encoder must be a whole number"),
        ("encoder", {"num_attention_heads": 5}, "is not shared by 5 heads"),
    ):
        config = plain | {side: plain[side] | change}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(Refused, match=told):
            read_caption_shape(Source(folder=folder, origin="odd"))
    (folder / "config.json").write_text(json.dumps(plain | {"architectures": ["Other"]}))
    with pytest.raises(Refused, match="Other is no VisionEncoderDecoderModel"):
        read_caption_shape(Source(folder=folder, origin="odd"))


def test_a_folder_becomes_a_bundle_that_verifies(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tiny"
    variants = ["--variants", "cpu-int8-b64,cpu-fp32", "--threshold", "kl=0.2"]
    limits = ["--threshold", "top1=0.5", "--threshold", "golden=0.3"]
    made = ["model", str(source.folder), "--out", str(out), *variants, *limits]
    assert main(made) == 0
    told = capsys.readouterr().out
    assert "fp32 graphs against PyTorch" in told
    manifest = Bundle.open(out).of_kind(Caption).manifest
    assert (manifest.tasks, manifest.max_length) == (("caption",), LENGTH)
    names = [variant.name for variant in manifest.components.decoder.variants]
    assert {"cpu-int8-b64", "cpu-fp32"} <= set(names)
    assert main(["verify", str(out)]) == 0
    assert "golden samples: 100.0%" in capsys.readouterr().out
    assert main(made) == 0
    assert "up to date" in capsys.readouterr().out


def test_the_folder_exports_in_one_step_alone(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(source.folder), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "is a captioner, whose graphs and bundle are made in one step" in told
    assert "nsedge-export model" in told
