"""Fine-tuning of models that see, over tiny ones: what is learnt is what transformers' own
processor gives, and what is merged and served answers as peft does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from exporters.__main__ import main
from exporters.finetune.examples import read_examples, validation_path
from exporters.model.lora import WEIGHTS_FILE
from exporters.model.lora_config import CONFIG_FILE
from nsedge.api import Message
from tests.export.test_train import DYING
from tests.export.tiny_vision_lms import write_vision_folder
from tests.export.vision_rig import (
    GREEDY,
    LOOSE,
    PICTURES,
    ByTransformers,
    said,
    serving,
    tokens_of,
)

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_cache")]

QUICK = ("--rank", "4", "--batch", "2", "--learning-rate", "3e-3", "--threads", "1")
PROJECTORS = {"llava": "multi_modal_projector", "idefics3": "connector"}
QUESTIONS = ("What is this?", "And here?", "Who?")


def write_rows(folder: Path) -> Path:
    """Rows about a picture, about two, and about none."""
    rows = []
    for number, picture in enumerate(PICTURES):
        picture.save(folder / f"{number}.png")
        for question in QUESTIONS:
            shown = [{"type": "image", "image": f"{number}.png"}]
            parts = [*shown, {"type": "text", "text": f"{question} {number}"}]
            rows.append(_row(parts, f"picture {number}"))
    both = [{"type": "image", "image": f"{number}.png"} for number in (1, 0)]
    rows.append(_row([*both, {"type": "text", "text": "Which is which?"}], "the other way round"))
    rows.append(_row("No picture?", "none"))
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _row(content: Any, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": answer},
        ]
    }


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Makes a base and a dataset for it; where they are."""

    def make(family: str) -> tuple[str, str]:
        base = write_vision_folder(tmp_path / f"Tiny-{family}", family)
        rows, train = write_rows(tmp_path), tmp_path / "train.jsonl"
        call = ("dataset", "--base", str(base), "--input", str(rows), "--output", str(train))
        assert main([*call, "--validation", "0.2"]) == 0
        return str(base), str(train)

    return make


def by_peft(base: str, adapter: Path) -> Any:
    plain = transformers.AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(plain, str(adapter)).eval()


def loss_by_transformers(model: Any, base: str, family: str, train: Path) -> float:
    """The mean loss of the answers of a dataset, read by transformers' own processor."""
    reference = ByTransformers(Path(base), family)
    total, count = 0.0, 0
    for example in read_examples(train):
        images = [
            transformers.image_utils.load_image(str(train.parent / one.path))
            for one in example.pictures
        ]
        told = [
            {
                "role": turn.role,
                "content": [
                    *([{"type": "image"}] * turn.content.count("<image>")),
                    {"type": "text", "text": turn.content.replace("<image>\n", "")},
                ],
            }
            for turn in example.messages
        ]
        whole = reference.processor.apply_chat_template(told)
        before = reference.processor.apply_chat_template(told[:-1], add_generation_prompt=True)
        end = reference.processor.tokenizer.eos_token
        text = f"{whole.rstrip()}{end}" if family == "llava" else whole
        read, asked = (
            reference.processor(text=one, images=images or None, return_tensors="pt")
            for one in (text, before)
        )
        for given in (read, asked):
            given.pop("token_type_ids", None)
        labels = read["input_ids"].clone()
        labels[:, : asked["input_ids"].shape[1]] = -100
        if family != "llava":
            labels[:, -1] = -100  # the line end behind the answer
        with torch.no_grad():
            logits = model(**read).logits[:, :-1]
        wanted = labels[:, 1:].flatten()
        total += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), wanted, ignore_index=-100, reduction="sum"
        ).item()
        count += int((wanted != -100).sum())
    return total / count


@pytest.mark.parametrize("family", PROJECTORS)
def test_what_is_learnt_is_what_transformers_reads(
    family: str,
    dataset: Callable[[str], tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, train = dataset(family)
    out = tmp_path / "adapter"
    call = ("train", "--base", base, "--dataset", train, "--out", str(out), *QUICK)
    capsys.readouterr()
    told = answer(capsys, *call, "--steps", "24")
    assert told["training_loss"] < 0.9 * told["training_loss_before"]
    assert told["whole"] == [PROJECTORS[family]]
    assert "q_proj" in told["targets"]
    names = load_file(out / WEIGHTS_FILE)
    assert {PROJECTORS[family], "lora_A"} <= {part for name in names for part in name.split(".")}
    assert not any("vision" in name for name in names)
    model = by_peft(base, out)
    found = loss_by_transformers(model, base, family, validation_path(Path(train)))
    assert found == pytest.approx(told["validation_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        (("--targets", "none"), {"multi_modal_projector"}),
        (("--whole", "none"), {"language_model"}),
        (
            ("--targets", "none", "--whole", "vision_tower,lm_head"),
            {"vision_tower", "lm_head"},
        ),
    ],
)
def test_parts_are_learnt_as_named_and_merged(
    options: tuple[str, ...],
    trained: set[str],
    dataset: Callable[[str], tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, train = dataset("llava")
    out, merged = tmp_path / "adapter", tmp_path / "merged"
    call = ("train", "--base", base, "--dataset", train, "--out", str(out), *QUICK)
    assert main([*call, "--steps", "4", *options]) == 0
    assert main(["merge", "--adapter", str(out), "--base", base, "--out", str(merged)]) == 0
    names = set(load_file(out / WEIGHTS_FILE))
    assert {part for one in trained for name in names for part in [one] if one in name} == trained
    others = {"multi_modal_projector", "language_model", "vision_tower", "lm_head"} - trained
    assert not any(other in name for other in others for name in names)
    ours = transformers.AutoModelForImageTextToText.from_pretrained(merged, dtype=torch.float32)
    theirs = by_peft(base, out).merge_and_unload().state_dict()
    before = transformers.AutoModelForImageTextToText.from_pretrained(base).state_dict()
    for name, weight in ours.state_dict().items():
        assert torch.allclose(weight, theirs[name], atol=1e-5), name
        if not any(one in name for one in trained):
            assert torch.equal(weight, before[name]), name
    assert any(not torch.equal(theirs[name], before[name]) for name in theirs)


def test_a_merged_model_is_exported_and_answers_as_peft_does(
    dataset: Callable[[str], tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, train = dataset("llava")
    out, merged, bundle = (tmp_path / name for name in ("adapter", "merged", "bundle"))
    call = ("train", "--base", base, "--dataset", train, "--out", str(out), *QUICK)
    assert main([*call, "--steps", "8"]) == 0
    assert main(["merge", "--adapter", str(out), "--base", base, "--out", str(merged)]) == 0
    export = ("model", str(merged), "--name", "tiny", "--out", str(bundle), *LOOSE)
    assert main([*export, "--variants", "cpu-fp32"]) == 0
    reference = ByTransformers(Path(base), "llava")
    turns: list[list[Message]] = [[said("What is this? 0", one)] for one in PICTURES]
    plain = [reference.answer(*each) for each in turns]
    reference.model = by_peft(base, out)
    wanted = [reference.answer(*each) for each in turns]
    assert wanted != plain
    with serving(bundle, "cpu-fp32") as (client, _):
        asked = [client.chat("tiny", each, sampling=GREEDY) for each in turns]
        assert [tokens_of(one) for one in asked] == wanted


def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    dataset: Callable[[str], tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, train = dataset("llava")
    out, whole = tmp_path / "adapter", tmp_path / "whole"
    call = ["train", "--base", base, "--dataset", train, *QUICK, "--steps", "7"]
    assert main([*call, "--out", str(whole), "--checkpoint-every", "100"]) == 0
    (tmp_path / "cache").rename(tmp_path / "kept")
    kill = [sys.executable, "-c", DYING, *call, "--out", str(out), "--checkpoint-every", "2"]
    assert subprocess.run(kill, capture_output=True, timeout=300).returncode == -signal.SIGKILL
    capsys.readouterr()
    told = answer(capsys, *call, "--out", str(out), "--checkpoint-every", "2")
    assert told["resumed_at"] == 4
    assert (out / WEIGHTS_FILE).read_bytes() == (whole / WEIGHTS_FILE).read_bytes()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--whole", "no_such_part"), "--whole: no module is called no_such_part"),
        (("--whole", "language_model"), "holds layers that get an adapter; see --targets"),
        (("--whole", "none", "--targets", "none"), "nothing is to be learnt"),
        (("--targets", "fc1"), "no linear layer is called fc1"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    options: tuple[str, ...],
    reason: str,
    dataset: Callable[[str], tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, train = dataset("llava")
    out = tmp_path / "adapter"
    call = ["train", "--base", base, "--dataset", train, "--out", str(out), *QUICK, *options]
    assert main(call) == 1
    assert reason in capsys.readouterr().err
    assert not out.exists()


def test_pictures_that_went_or_changed_since_are_named(
    dataset: Callable[[str], tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, train = dataset("llava")
    call = ["train", "--base", base, "--dataset", train, "--out", str(tmp_path / "out"), *QUICK]
    PICTURES[1].save(tmp_path / "0.png")
    assert main([*call, "--steps", "8"]) == 1
    assert "0.png: the picture is another than when the dataset was made" in capsys.readouterr().err
    (tmp_path / "0.png").unlink()
    assert main(call) == 1
    assert "0.png: the dataset names this picture, and it is not there" in capsys.readouterr().err


def test_the_adapter_tells_what_it_is(
    dataset: Callable[[str], tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, train = dataset("llava")
    out = tmp_path / "adapter"
    call = ("train", "--base", base, "--dataset", train, "--out", str(out), *QUICK)
    assert main([*call, "--steps", "2"]) == 0
    assert "learnt whole: multi_modal_projector" in capsys.readouterr().out
    config = json.loads((out / CONFIG_FILE).read_text())
    assert config["modules_to_save"] == ["multi_modal_projector"]
    assert "Rank 4, `multi_modal_projector` whole, " in (out / "README.md").read_text()
    assert json.loads((out / "lineage.json").read_text())["settings"]["whole"] == [
        "multi_modal_projector"
    ]
    assert str(tmp_path) not in (out / "lineage.json").read_text()
