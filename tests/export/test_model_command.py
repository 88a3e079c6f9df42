"""`nsedge-export model` and `verify` over a tiny model's folder, end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

import exporters.trace.reference
from exporters.__main__ import main
from nsedge.bundle.causal_lm import GoldenPrompt
from nsedge.bundle.manifest import Bundle
from tests.export.tiny import POSITIONS, TEMPLATE, VOCABULARY, write_model_folder

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("models") / "Tiny")


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_a_folder_becomes_a_bundle_that_verifies(
    folder: Path, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = answer(capsys, "model", str(folder), "--scheme", "fp32")
    path = places / "home" / "bundles" / "tiny"
    assert (made["bundle"], made["made"]) == (str(path), True)
    assert made["difference_from_torch"] < 1e-4
    manifest = Bundle.open(path).manifest
    assert manifest.provenance.licence == "MIT"
    assert manifest.provenance.architecture == "LlamaForCausalLM"
    assert (manifest.context_length, manifest.vocab_size) == (POSITIONS, VOCABULARY)
    assert manifest.eos_token_ids == (2,)
    assert manifest.tokenizer.add_bos is False
    assert Bundle.open(path).text(manifest.chat_template) == TEMPLATE
    assert len(Bundle.open(path).golden("generate", GoldenPrompt)) >= 3

    verdict = answer(capsys, "verify", str(path))
    assert verdict["passed"] is True
    check = verdict["variants"]["cpu-fp32"]
    assert check["golden"]["top1"] == 1.0
    assert check["fidelity_measured"] == check["fidelity_recorded"]
    assert check["fidelity_recorded"]["positions"] >= 500
    assert check["fidelity_recorded"]["kl"] == 0.0


def test_the_second_run_makes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "model", str(folder), "--scheme", "fp32")

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(exporters.trace.reference, "make_reference", never)
    assert main(["model", str(folder), "--scheme", "fp32"]) == 0
    captured = capsys.readouterr()
    assert "up to date" in captured.out
    steps = captured.err.splitlines()
    assert steps
    assert all("kept from before" in line for line in steps)


def test_another_scheme_shares_the_exported_graph(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(capsys, "model", str(folder), "--scheme", "fp32")
    monkeypatch.setattr(exporters.trace.reference, "make_reference", lambda *args, **kwargs: 1 / 0)
    out = tmp_path / "small"
    made = answer(capsys, "model", str(folder), "--scheme", "int4-b32", "--out", str(out))
    assert 0 < made["fidelity"]["kl"] < 1
    assert set(made["kept_fp32_bytes"]) == {"scales", "norms", "rotary tables", "small tables"}
    variant = Bundle.open(out).manifest.variants[-1]
    assert (variant.name, variant.scheme) == ("cpu-int4-b32", "int4-b32")
    # A lossy scheme promises nothing: its check tells, and does not fail.
    assert answer(capsys, "verify", str(out))["passed"] is True


def test_without_the_cache_the_recorded_fidelity_is_told_as_recorded(
    folder: Path,
    places: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = answer(capsys, "model", str(folder), "--scheme", "fp32")["bundle"]
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "empty"))
    assert main(["verify", path]) == 0
    told = capsys.readouterr().out
    assert "against fp32, as recorded: KL 0.0000 nats" in told
    assert "not measured anew" in told


def test_a_graph_that_says_something_else_fails_its_golden_prompts(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_model_folder(tmp_path / "other", "qwen2")
    told = [
        answer(capsys, "model", str(model), "--scheme", "fp32", "--out", str(tmp_path / name))
        for model, name in ((folder, "a"), (other, "b"))
    ]
    a, b = (Path(made["bundle"]) for made in told)
    graph = Bundle.open(a).manifest.variants[0].graph
    manifest = json.loads((a / "manifest.json").read_text())
    for name in (graph, f"{graph}.data"):
        (a / name).write_bytes((b / name).read_bytes())
        manifest["files"][name] = json.loads((b / "manifest.json").read_text())["files"][name]
    (a / "manifest.json").write_text(json.dumps(manifest))
    verdict = answer(capsys, "verify", str(a), status=1)
    assert verdict["passed"] is False
    told = verdict["variants"]["cpu-fp32"]["failures"]
    assert any(reason.startswith("golden is ") for reason in told)


def test_context_is_capped_where_asked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "short"
    options = ("--context", "48", "--scheme", "fp32", "--name", "short", "--out", str(out))
    answer(capsys, "model", str(folder), *options)
    manifest = Bundle.open(out).manifest
    assert (manifest.name, manifest.context_length) == ("short", 48)
    told = answer(capsys, "model", str(folder), "--context", "8", status=1)
    assert told["error"] == "a context of 8 tokens is too short; at least 35"


def test_shards_are_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model_folder(tmp_path / "shards", max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    out = str(tmp_path / "bundle")
    made = answer(capsys, "model", str(folder), "--scheme", "fp32", "--out", out)
    assert made["difference_from_torch"] < 1e-4


def test_a_graph_unlike_torch_is_not_packaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model_folder(tmp_path / "off", "qwen3")
    monkeypatch.setattr(exporters.trace.reference, "MAX_DIFFERENCE", 0.0)
    out = tmp_path / "bundle"
    told = answer(capsys, "model", str(folder), "--out", str(out), status=1)
    assert "the exported graph differs from PyTorch by" in told["error"]
    assert not out.exists()


def test_an_unknown_architecture_is_refused_and_its_code_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model_folder(tmp_path / "strange")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    told = answer(capsys, "model", str(folder), status=1)
    version = transformers.__version__
    assert told["error"].startswith(
        f"transformers {version} does not know this architecture (strange)"
    )
    assert not (tmp_path / "ran").exists()
