"""Encoders of every family: graphs make what PyTorch makes, folders become bundles that verify."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import exporters.encoder.reference
from exporters.__main__ import main
from exporters.deploy.trial_vectors import try_out_vectors
from exporters.encoder.records import EncoderRecord, session_of
from exporters.encoder.reference import MAX_DIFFERENCE, make_reference
from exporters.encoder.verify import open_variant
from exporters.errors import Refused
from exporters.model.source import Source
from nsedge.bundle.encoder import Encoder, GoldenVector
from nsedge.bundle.manifest import Bundle
from nsedge.errors import BundleInvalid
from nsedge.ipc.client import Client
from tests.export.tiny_encoders import (
    MODELS,
    POSITIONS,
    VOCABULARY,
    WIDTH,
    make_encoder,
    make_masked_lm,
    set_pooling,
    write_encoder_folder,
)
from tests.ipc import short_directory
from tests.unit.exporters.deploy.deployable import Home, alias_of, restate

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder_folder(tmp_path_factory.mktemp("models") / "Tiny")


def reference(folder: Path, out: Path) -> EncoderRecord:
    out.mkdir()
    make_reference(Source(folder=folder, origin="tiny"), out, max_context=None)
    return EncoderRecord.read(out)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.mark.parametrize("family", MODELS)
def test_a_family_is_within_1e_4_of_torch(family: str, tmp_path: Path) -> None:
    folder = write_encoder_folder(tmp_path / family, family)
    record = reference(folder, tmp_path / "out")
    assert record.difference < MAX_DIFFERENCE
    assert (record.gives.dimensions, record.vocab_size) == (WIDTH, VOCABULARY)
    assert record.context_length == 48
    # And once more by hand: torch reads a padded batch with its mask.
    model = make_encoder(family)
    rows = [list(range(2, 2 + length)) for length in (40, 7, 1, 21)]
    mask = torch.tensor([[1] * len(row) + [0] * (40 - len(row)) for row in rows])
    ids = torch.tensor([row + [record.pad_token_id] * (40 - len(row)) for row in rows])
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask[..., None].float()
    pooled = (states * weights).sum(1) / weights.sum(1)
    wanted = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    got = session_of(tmp_path / "out", record).run(rows)
    assert np.abs(got - wanted).max() < 1e-4


@pytest.mark.parametrize("mode", ["mean_tokens", "cls_token", "lasttoken"])
@pytest.mark.parametrize("normalised", [True, False])
def test_pooling_lies_in_the_graph(mode: str, normalised: bool, tmp_path: Path) -> None:
    folder = write_encoder_folder(tmp_path / "model")
    set_pooling(folder, mode)
    if not normalised:
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps(modules[:2]))
    record = reference(folder, tmp_path / "out")
    assert record.difference < MAX_DIFFERENCE
    assert record.gives.normalised is normalised
    vectors = session_of(tmp_path / "out", record).run([[2, 5, 9, 3], [2, 8, 3]])
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.allclose(lengths, 1.0, atol=1e-5) is normalised


def test_a_plain_model_is_read_as_sentence_transformers_does(
    tmp_path: Path,
) -> None:
    folder = write_encoder_folder(tmp_path / "model")
    for name in ("modules.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    record = reference(folder, tmp_path / "out")
    assert (record.gives.pooling, record.gives.normalised) == ("mean", False)
    assert record.context_length == POSITIONS


def test_a_folder_becomes_a_bundle_that_verifies(
    folder: Path, places: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = answer(capsys, "model", str(folder))
    path = places / "home" / "bundles" / "tiny"
    assert (made["bundle"], made["made"]) == (str(path), True)
    bundle = Bundle.open(path).of_kind(Encoder)
    manifest = bundle.manifest
    assert (manifest.pooling, manifest.normalised, manifest.dimensions) == ("mean", True, WIDTH)
    assert (manifest.context_length, manifest.vocab_size) == (48, VOCABULARY)
    assert manifest.provenance.licence == "MIT"
    assert [variant.scheme for variant in manifest.variants][-1] == "fp32"
    assert [variant.name for variant in manifest.variants] == ["cpu-w8a8", "cpu-fp32"]
    assert made["notes"] == []
    golden = bundle.golden("embed", GoldenVector)
    assert {len(sample.vector) for sample in golden} == {WIDTH}
    assert all(sample.ids[0] == 2 and sample.ids[-1] == 3 for sample in golden)

    verdict = answer(capsys, "verify", str(path), "--report", str(tmp_path / "report"))
    assert verdict["passed"] is True
    for name, check in verdict["variants"].items():
        assert check["fidelity_measured"] == check["fidelity_recorded"]
        assert check["fidelity_recorded"]["texts"] >= 50
        assert check["golden_cosine"] >= (0.9999 if name == "cpu-fp32" else 0.99)
    assert json.loads((tmp_path / "report" / "report.json").read_text())["passed"] is True


def test_the_second_run_makes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "model", str(folder))
    monkeypatch.setattr(exporters.encoder.reference, "make_reference", lambda *a, **k: 1 / 0)
    assert answer(capsys, "model", str(folder))["made"] is False


def test_texts_of_ones_own_are_measured_over(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = answer(capsys, "model", str(folder))["bundle"]
    texts = tmp_path / "texts.txt"
    texts.write_text("a man\n\nplaying the guitar\nno\n")
    check = answer(capsys, "verify", path, "--text", str(texts))["variants"]["cpu-fp32"]
    assert (check["fidelity_text"]["texts"], check["fidelity_text"]["cosine_least"]) == (3, 1.0)


def test_a_graph_that_makes_other_vectors_fails_its_golden_ones(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_encoder_folder(tmp_path / "other", "roberta")
    a, b = (
        Path(answer(capsys, "model", str(model), "--out", str(tmp_path / name))["bundle"])
        for model, name in ((folder, "a"), (other, "b"))
    )
    theirs = json.loads((b / "manifest.json").read_text())["files"]
    manifest = json.loads((a / "manifest.json").read_text())
    for name in ("cpu-fp32/model.onnx", "cpu-fp32/model.onnx.data"):
        shutil.copyfile(b / name, a / name)
        manifest["files"][name] = theirs[name]
    (a / "manifest.json").write_text(json.dumps(manifest))
    verdict = answer(capsys, "verify", str(a), status=1)
    (told,) = [r for r in verdict["variants"]["cpu-fp32"]["failures"] if "golden" in r]
    assert told.startswith("golden_cosine is ")


def test_a_limit_that_is_not_kept_fails_the_build(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    strict = ("--threshold", "cosine_least=0.9999999", "--out", str(out))
    told = answer(capsys, "model", str(folder), "--scheme", "int8-b64", *strict, status=1)
    assert told["error"].startswith("not packaged: cpu-int8-b64: cosine_least is 0.99")
    assert "to be at least 0.9999999;" in told["error"]
    assert not out.exists()


def test_a_vector_does_not_depend_on_its_neighbours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(answer(capsys, "model", str(folder), "--scheme", "w8a8")["bundle"])
    bundle = Bundle.open(path).of_kind(Encoder)
    (variant,) = bundle.manifest.variants
    session = open_variant(bundle, variant)
    row, *others = [[2, 5, 9, 3], [2, *range(4, 44), 3], [2, 8, 3]]
    (alone,) = session.run([row])
    beside = session.run([row, *others])[0]
    assert np.abs(alone - beside).max() < 1e-5


def test_activations_below_all_levels_are_kept_in_blocks_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_encoder_folder(tmp_path / "Small")
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if ".intermediate." in name:
            weight *= 0.01
        elif name.endswith("output.dense.weight") and "attention" not in name:
            weight *= 100.0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    made = answer(capsys, "model", str(folder))
    (note,) = made["notes"]
    assert note.startswith("cpu-w8a8 passed over: ")
    assert "cosine_least is " in note
    assert list(made["variants"]) == ["cpu-int8-b64", "cpu-fp32"]
    wanted = ("--scheme", "w8a8", "--out", str(tmp_path / "other"))
    told = answer(capsys, "model", str(folder), *wanted, status=1)
    assert told["error"].startswith("not packaged: cpu-w8a8: ")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--threshold", "kl=0.1"), "--threshold kl: this kind of model is measured by cosine"),
        (("--threshold", "x.cosine=1"), "--threshold x.cosine: no variant x"),
        (
            ("--scheme", "x4"),
            "--scheme x4 is for text models; encoders have fp32, int8-b32, int8-b64, w8a8",
        ),
        (("--kv", "int8"), "--kv int8: an encoder keeps no keys and values"),
        (("--device", "cuda"), "--device cuda: encoders are exported for the CPU"),
    ],
)
def test_what_encoders_do_not_have_is_refused(
    folder: Path, options: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = answer(capsys, "model", str(folder), *options, status=1)
    assert told["error"].startswith(reason)


def test_answers_are_for_models_that_write(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = answer(capsys, "model", str(folder))["bundle"]
    told = answer(capsys, "verify", path, "--answers", status=1)
    assert told["error"] == "--answers and --prompts are for models that write text"


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    folder = write_encoder_folder(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(Refused, match=r"the weights 'encoder\.layer\.2.* are missing"):
        reference(folder, tmp_path / "out")


def test_heads_are_left_aside_and_layers_never(tmp_path: Path) -> None:
    folder = write_encoder_folder(tmp_path / "model")
    make_masked_lm().save_pretrained(folder)
    record = reference(folder, tmp_path / "out")
    assert record.difference < MAX_DIFFERENCE
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(Refused, match=r"encoder\.layer\.1.* would be left out"):
        reference(folder, tmp_path / "again")


def test_a_running_daemon_tries_golden_texts_before_it_serves_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(answer(capsys, "model", str(folder), "--out", str(tmp_path / "one"))["bundle"])
    spoilt = Path(shutil.copytree(path, tmp_path / "two"))
    golden = json.loads((spoilt / "golden.json").read_text())
    golden[-1]["vector"] = [-number for number in golden[-1]["vector"]]
    (spoilt / "golden.json").write_text(json.dumps(golden))
    restate(spoilt)
    with short_directory() as place:
        home = Home(place)
        there = ("--to", home.endpoint, "--store", str(home.store))
        with home.serving():
            told = answer(capsys, "deploy", str(path), "--as", "prod", *there)
            assert told["golden"]["texts"] == len(golden)
            assert 0.99 <= told["golden"]["least_cosine"] <= 1.00001
            failed = answer(capsys, "deploy", str(spoilt), "--as", "prod", *there, status=1)
            assert "a cosine of -" in failed["error"]
            assert alias_of(home, "prod") == told["model"]
            with Client(home.endpoint) as client:
                (info,) = (one for one in client.models() if one.name == told["model"])
                bundle = Bundle.open(spoilt).of_kind(Encoder)
                with pytest.raises(BundleInvalid, match="a cosine of -"):
                    try_out_vectors(client, bundle, info)


def test_export_names_the_command_that_takes_encoders(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = answer(capsys, "export", str(folder), "--out", str(tmp_path / "graphs"), status=1)
    assert told["error"].endswith(f"made in one step: nsedge-export model {folder}")
