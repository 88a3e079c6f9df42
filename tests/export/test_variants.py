"""`export`, `package` and `verify` over a tiny model: several variants, limits, reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import exporters.trace.reference
from exporters.__main__ import main
from exporters.graph.graph import Graph
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.hosting.variants import choose_variant
from nsedge.runtime.settings import Device
from tests.export.tiny import SIZES, VOCABULARY, make_model, write_model_folder

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

LOOSE = ("--threshold", "top1=0.5", "--threshold", "golden=0.5")
"""Random weights have near-ties everywhere."""


@pytest.fixture(scope="module")
def folder(places: Path) -> Path:
    """Merged: with PyTorch's logits and what was merged beside the weights."""
    folder = write_model_folder(places / "Tiny", "llama-tied-llama3-rope")
    (folder / "lineage.json").write_text('{"base": "org/base"}')
    write_logits(folder)
    return folder


def write_logits(folder: Path, *, off: float = 0.0) -> None:
    model = make_model("llama-tied-llama3-rope")
    tensors = {}
    for number, length in enumerate((17, 9)):
        ids = np.arange(3, 3 + length) % VOCABULARY
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]
        tensors[f"ids.{number}"] = ids
        tensors[f"logits.{number}"] = logits.numpy()
    tensors["logits.1"][2, 5] += off
    save_file(tensors, folder / "reference-logits.safetensors")


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.fixture
def exported(folder: Path, places: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    out = places / "exported"
    names = "cpu-int8,cpu-int8-kv8,cuda-fp16"
    answer(capsys, "export", str(folder), "--out", str(out), "--variants", names)
    return out


@pytest.fixture
def bundle(exported: Path, places: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    return Path(answer(capsys, "package", str(exported), "--name", "tiny", *LOOSE)["bundle"])


def test_package_needs_nothing_but_what_export_wrote(
    folder: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = folder.rename(tmp_path / "hidden")
    try:
        out = str(tmp_path / "bundle")
        arguments = ("package", str(exported), "--name", "tiny", "--out", out, *LOOSE)
        assert answer(capsys, *arguments)["made"] is True
        assert answer(capsys, *arguments)["made"] is False
    finally:
        hidden.rename(folder)
    bundle = Bundle.open(tmp_path / "bundle")
    bundle.verify_hashes()
    names = [v.name for v in bundle.manifest.variants if not v.requires]
    assert names == ["cuda-fp16", "cpu-int8", "cpu-int8-kv8"]
    assert json.loads((tmp_path / "bundle" / "lineage.json").read_text()) == {"base": "org/base"}
    assert bundle.manifest.provenance.parameters > 0
    assert bundle.manifest.provenance.thresholds == {"top1": 0.5, "golden": 0.5}
    assert bundle.manifest.provenance.licence == "MIT"


def test_a_native_form_is_the_cpus_with_a_float32_cache(exported: Path) -> None:
    assert [path.parent.name for path in exported.glob("*/native.onnx")] == ["cpu-int8"]


def test_the_daemon_takes_what_runs_on_its_device(bundle: Path) -> None:
    variants = Bundle.open(bundle).manifest.variants
    standard = tuple(variant for variant in variants if not variant.requires)
    assert choose_variant(standard, Device.CPU, "tiny").name == "cpu-int8"


def test_the_head_and_the_embedding_are_one_table_in_every_variant(bundle: Path) -> None:
    for variant in Bundle.open(bundle).manifest.variants:
        if variant.requires:
            continue
        graph = Graph.load(bundle / variant.graph)
        tables = [w for w in graph.weights.values() if w.size == VOCABULARY * SIZES["hidden_size"]]
        assert len(tables) == 1, variant.name


def test_an_export_is_not_made_twice_and_not_over_another_thing(
    folder: Path,
    exported: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = "cpu-int8,cpu-int8-kv8,cuda-fp16"
    again = ("export", str(folder), "--variants", names)
    before = (exported / "export.json").stat().st_mtime_ns
    assert answer(capsys, *again, "--out", str(exported))["made"] is False
    assert (exported / "export.json").stat().st_mtime_ns == before
    (tmp_path / "notes").mkdir()
    told = answer(capsys, *again, "--out", str(tmp_path / "notes"), status=1)
    assert "another thing; --force" in told["error"]
    (exported / "cpu-int8" / "model.onnx").open("ab").write(b"!")
    told = answer(capsys, "package", str(exported), "--name", "tiny", status=1)
    assert "was altered; export again" in told["error"]
    assert answer(capsys, *again, "--out", str(exported))["made"] is True
    told = answer(capsys, "package", str(tmp_path / "notes"), "--name", "tiny", status=1)
    assert "nothing that export wrote" in told["error"]


def test_limits_fail_the_build_and_leave_nothing(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "store" / "bundle"
    limits = (*LOOSE, "--threshold", "cpu-int8.kl=0")
    arguments = ("package", str(exported), "--name", "tiny", "--out", str(out), *limits)
    told = answer(capsys, *arguments, status=1)["error"]
    assert "cpu-int8: kl is " in told
    assert "cpu-int8-kv8" not in told
    assert not out.parent.exists()
    wrong = ("package", str(exported), "--name", "tiny", "--threshold", "kl")
    assert "[VARIANT.]MEASURE=NUMBER" in answer(capsys, *wrong, status=1)["error"]


def test_verify_measures_texts_and_answers_prompts(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 8)
    (tmp_path / "prompts.txt").write_text("What is it?\n\nWhy?\n")
    report = tmp_path / "report"
    told = answer(
        capsys,
        *("verify", str(bundle), "--report", str(report)),
        *("--text", str(tmp_path / "text.txt"), "--prompts", str(tmp_path / "prompts.txt")),
    )
    assert told["passed"] is True
    check = told["variants"]["cpu-int8"]
    assert check["fidelity_text"]["positions"] > 300
    assert check["fidelity_text"]["text_sha256"] != check["fidelity_measured"]["text_sha256"]
    # What the build was made with holds for its checks, too.
    assert (check["limits"]["top1"], check["limits"]["kl"]) == (0.5, 0.01)
    assert [each["prompt"] for each in told["answers"]] == ["What is it?", "Why?"]
    assert set(told["answers"][0]["variants"]) == set(told["variants"])
    assert told["answers"][0]["fp32"] is not None
    written = json.loads((report / "report.json").read_text())
    assert written["variants"] == told["variants"]
    assert "## Over the text given" in (report / "report.md").read_text()
    Bundle.open(bundle).verify_hashes()


def test_verify_leaves_the_bundle_alone_and_fails_by_limits_asked_for(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = answer(capsys, "verify", str(bundle), "--report", str(bundle), status=1)
    assert "goes beside the bundle" in told["error"]
    assert "REPORT" not in (bundle / "report.md").read_text()
    told = answer(capsys, "verify", str(bundle), "--threshold", "cpu-int8.golden=1.1", status=1)
    assert told["variants"]["cpu-int8"]["passed"] is False
    assert told["variants"]["cuda-fp16"]["passed"] is True
    Bundle.open(bundle).verify_hashes()


def test_a_text_needs_the_fp32_graph(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "empty"))
    told = answer(capsys, "verify", str(bundle), "--text", "README.md", status=1)
    assert "--text needs the fp32 graph" in told["error"]
    told = answer(capsys, "verify", str(bundle), "--answers")
    assert all(each["fp32"] is None for each in told["answers"])


def test_the_logits_that_came_with_a_model_are_held_to(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = answer(capsys, "model", str(folder), "--variants", "cpu-fp32", "--name", "logits")
    assert 0 < made["difference_from_recorded"] < 1e-4
    wrong = tmp_path / "wrong"
    shutil.copytree(folder, wrong)
    write_logits(wrong, off=0.5)
    out = tmp_path / "bundle"
    told = answer(capsys, "model", str(wrong), "--out", str(out), status=1)["error"]
    assert "nats from the logits that came with the model" in told
    assert not out.exists()
    raw = (wrong / "reference-logits.safetensors").read_bytes()
    (wrong / "reference-logits.safetensors").write_bytes(raw[:-100])
    told = answer(capsys, "model", str(wrong), "--out", str(out), status=1)["error"]
    assert "reference-logits.safetensors" in told
    assert told.endswith("merge again")


def test_x4_of_merged_weights_is_refused_by_name_with_the_way_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    arguments = ("model", str(folder), "--out", str(out), "--variants", "cpu-int8,cpu-x4")
    told = answer(capsys, *arguments, status=1)["error"]
    assert told.startswith("variant cpu-x4: ")
    assert told.endswith("took them off that grid: use int8")
    assert not out.exists()


def test_variants_and_scheme_do_not_go_together(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters.trace.reference, "make_reference", lambda *args, **kwargs: 1 / 0)
    arguments = ("model", str(folder), "--variants", "cpu-int8", "--scheme", "x4")
    assert "--scheme does not go" in answer(capsys, *arguments, status=1)["error"]
