"""`nsedge-export train` over a tiny model: what it learns, what it writes, and how it goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from exporters.__main__ import main
from exporters.finetune.batches import NO_TARGET, padded, tokenise
from exporters.finetune.device import Place, Precision
from exporters.finetune.examples import read_examples, validation_path
from exporters.finetune.loop import Training
from exporters.finetune.settings import Settings
from exporters.finetune.targets import TARGETS
from exporters.model.lora import WEIGHTS_FILE
from exporters.model.lora_config import CONFIG_FILE
from exporters.model.source import Source
from tests.export.finetuning import write_base, write_dataset
from tests.export.tiny import MODELS, write_model_folder

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_cache")]

QUICK = ("--rank", "4", "--batch", "2", "--learning-rate", "5e-3", "--threads", "1")
DYING = """
import os, signal, sys
from exporters.__main__ import main
from exporters.finetune.checkpoints import Checkpoint
whole = Checkpoint.write
def write(self, folder):
    whole(self, folder)
    if self.curve.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.write = write
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model_folder(tmp_path / "Tiny")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "train.jsonl")


def call(base: Path, dataset: Path, out: Path, *more: str) -> list[str]:
    return ["train", "--base", str(base), "--dataset", str(dataset), "--out", str(out), *more]


def answer(
    capsys: pytest.CaptureFixture[str], arguments: list[str], *, status: int = 0
) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_an_adapter_learns_and_is_pefts_own(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    told = answer(capsys, call(base, dataset, out, *QUICK, "--epochs", "4"))
    assert told["made"] is True
    assert told["steps"] == 24
    assert told["training_loss"] < 0.8 * told["training_loss_before"]
    assert told["warning"] is None
    assert (told["base"], told["base_chosen"]) == ("Tiny", "as named")
    assert told["targets"] == sorted(TARGETS["llama"])
    assert told["validation_loss"] < 0.8 * told["validation_loss_before"]

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = torch.tensor([[3, 9, 40, 41]])
    before = plain(ids).logits
    adapted = peft.PeftModel.from_pretrained(plain, str(out))
    assert not torch.allclose(adapted(ids).logits, before, atol=1e-3)
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        CONFIG_FILE,
        WEIGHTS_FILE,
        "lineage.json",
        "loss.json",
        "loss.png",
        "nsedge-stage.json",
    ]
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    curve = json.loads((out / "loss.json").read_text())
    assert [point["step"] for point in curve["training"]] == list(range(1, 25))
    assert [point["step"] for point in curve["validation"]] == list(range(0, 25, 3))
    lineage = json.loads((out / "lineage.json").read_text())
    assert lineage["base"]["origin"] == "Tiny"
    assert lineage["base"]["licence"] == "MIT"
    assert lineage["dataset"]["examples"] == 12
    for file in (CONFIG_FILE, "lineage.json", "README.md", "nsedge-stage.json"):
        assert str(tmp_path) not in (out / file).read_text()


def test_the_kept_weights_are_those_of_the_best_measurement(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rising = [*QUICK[:4], "--learning-rate", "0.3", "--schedule", "constant", "--threads", "1"]
    rising += ["--steps", "40", "--evaluate", "2", "--patience", "2"]
    told = answer(capsys, call(base, dataset, tmp_path / "long", *rising))
    assert told["best_step"] == told["steps"] - 4
    assert told["steps"] < 40
    adapted = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(tmp_path / "long")
    )
    control = Source(folder=base, origin="").text_reader().control_tokens()
    held = tokenise(read_examples(validation_path(dataset)), control, max_tokens=200)
    batch = padded(held.examples)
    logits = adapted(
        torch.from_numpy(batch.ids), attention_mask=torch.from_numpy(batch.mask)
    ).logits
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten(), ignore_index=NO_TARGET
    )
    assert loss.item() == pytest.approx(told["validation_loss"], abs=1e-4)


def test_a_killed_run_goes_on_to_the_same_bits(
    base: Path,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = (*QUICK, "--steps", "9", "--evaluate", "3", "--accumulate", "2")
    broken = call(base, dataset, tmp_path / "broken", *steps, "--checkpoint-every", "1")
    killed = subprocess.run(
        [sys.executable, "-c", DYING, *broken], check=False, capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "broken").exists()
    resumed = answer(capsys, broken)
    assert resumed["resumed_at"] == 4

    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "another"))
    whole = answer(capsys, call(base, dataset, tmp_path / "whole", *steps))
    assert whole["resumed_at"] == 0
    assert (tmp_path / "broken" / WEIGHTS_FILE).read_bytes() == (
        tmp_path / "whole" / WEIGHTS_FILE
    ).read_bytes()
    assert (tmp_path / "broken" / "loss.json").read_bytes() == (
        tmp_path / "whole" / "loss.json"
    ).read_bytes()
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_the_same_run_is_not_made_twice(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = call(base, dataset, tmp_path / "adapter", *QUICK, "--steps", "2")
    first = answer(capsys, arguments)
    again = answer(capsys, arguments)
    assert (first["made"], again["made"]) == (True, False)
    assert again["validation_loss"] == first["validation_loss"]
    other = answer(capsys, [*arguments, "--seed", "1"])
    assert other["made"] is True


def test_checkpointing_computes_the_same(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = (*QUICK, "--steps", "3")
    plain = answer(capsys, call(base, dataset, tmp_path / "plain", *steps))
    saving = answer(capsys, call(base, dataset, tmp_path / "saving", *steps, "--checkpointing"))
    assert saving["validation_loss"] == pytest.approx(plain["validation_loss"], abs=1e-5)


def test_bf16_trains_too(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = answer(
        capsys,
        call(base, dataset, tmp_path / "a", *QUICK, "--steps", "12", "--precision", "bf16"),
    )
    assert told["precision"] == "bf16"
    assert told["validation_loss"] < told["validation_loss_before"]
    kept = load_file(tmp_path / "a" / WEIGHTS_FILE)
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}


def test_no_validation_file_means_the_last_step_is_kept(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_dataset(tmp_path / "alone.jsonl", held_back=0)
    told = answer(capsys, call(base, dataset, tmp_path / "adapter", *QUICK, "--steps", "3"))
    assert (told["steps"], told["best_step"]) == (3, 3)
    assert told["validation_loss"] is None
    assert "the loss hardly moved" in told["warning"]


def test_a_few_examples_are_learnt_with_nothing_but_defaults(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    arguments = call(base, dataset, out, "--patience", "0")
    told = answer(capsys, arguments)
    assert (told["steps"], told["batch"], told["epochs"]) == (60, 2, 10.0)
    assert told["learning_rate"] == 4e-4
    lineage = json.loads((out / "lineage.json").read_text())
    assert (lineage["settings"]["batch"], lineage["settings"]["epochs"]) == (2, 10.0)
    curve = json.loads((out / "loss.json").read_text())
    assert [point["step"] for point in curve["examined"]] == [0, told["best_step"]]
    assert main(arguments) == 0
    head, *_, last = capsys.readouterr().out.splitlines()
    assert head == f"{out}: up to date"
    assert last == (
        f"  loss: training {told['training_loss_before']:.3f} before,"
        f" {told['training_loss']:.3f} after; validation"
        f" {told['validation_loss_before']:.3f} before, {told['validation_loss']:.3f} after"
    )


def test_a_loss_that_is_no_number_names_its_step(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(base / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][:] = float("inf")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    alone = write_dataset(tmp_path / "alone.jsonl", held_back=0)
    told = answer(capsys, call(base, alone, tmp_path / "adapter", *QUICK), status=1)
    assert told["error"].startswith("step 0: the loss is nan")
    told = answer(capsys, call(base, dataset, tmp_path / "adapter", *QUICK), status=1)
    assert told["error"].startswith("step 0: the validation loss is nan")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("name", ["gpt2", "phi3", "gemma3"])
def test_layers_are_found_by_architecture(
    name: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / name, name)
    told = answer(capsys, call(base, dataset, tmp_path / "adapter", *QUICK, "--steps", "1"))
    kind = json.loads((base / "config.json").read_text())["model_type"]
    assert told["targets"] == sorted(TARGETS[kind])
    config = json.loads((tmp_path / "adapter" / CONFIG_FILE).read_text())
    assert config["fan_in_fan_out"] is (name == "gpt2")


def test_an_unknown_architecture_gets_every_linear_layer_but_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from exporters.finetune.targets import targets_of

    model = MODELS["llama"]()
    monkeypatch.setattr(model.config, "model_type", "unheard_of")
    assert targets_of(model, None) == tuple(sorted(TARGETS["llama"]))


def test_what_is_wrong_is_told(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    told = answer(capsys, call(base, dataset, out, "--targets", "q_proj,qkv"), status=1)
    assert "no linear layer is called qkv; there are down_proj" in told["error"]

    told = answer(capsys, call(base, dataset, out, "--max-tokens", "4"), status=1)
    assert "nothing to learn within --max-tokens 4 (12 examples dropped)" in told["error"]

    lines = dataset.read_text().splitlines()
    dataset.write_text("\n".join([*lines[:2], lines[2][:40], *lines[3:]]))
    told = answer(capsys, call(base, dataset, out), status=1)
    assert f"{dataset}, line 3: " in told["error"]

    out.mkdir()
    (out / "mine").touch()
    told = answer(capsys, call(base, dataset, out), status=1)
    assert "is another thing; --force replaces it" in told["error"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = answer(capsys, call(base, dataset, tmp_path / "a", "--device", "cuda"), status=1)
    assert "torch sees no CUDA device" in told["error"]


def test_the_loss_is_that_of_the_learnt_tokens_alone(base: Path, dataset: Path) -> None:
    """Against every position's loss, taken one example at a time without filling up."""
    model = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        peft.LoraConfig(r=2, target_modules=["q_proj"]),
    )
    control = Source(folder=base, origin="").text_reader().control_tokens()
    tokenised = tokenise(read_examples(dataset), control, max_tokens=200)
    place = Place(device="cpu", precision=Precision.FP32, name="CPU")
    run = Training(
        model,
        settings=Settings(batch=5),
        place=place,
        training=tokenised,
        validation=tokenised,
        threads=1,
    )
    run._measure(0)
    losses = []
    for one in tokenised.examples:
        with torch.no_grad():
            logits = model(torch.from_numpy(one.ids)[None]).logits[0, :-1]
        each = -torch.log_softmax(logits, -1)[range(len(one.ids) - 1), one.ids[1:]]
        losses += each[torch.from_numpy(one.learnt[1:])].tolist()
    assert run.curve.validation[0].loss == pytest.approx(np.mean(losses), abs=1e-5)
