"""`nsedge-export merge` over tiny models: the same as peft's own merging, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from exporters.__main__ import main
from exporters.finetune.reference_logits import REFERENCE_FILE
from exporters.model.lora import WEIGHTS_FILE
from exporters.model.source import Source
from exporters.model.texts import golden_texts
from tests.export.finetuning import write_base, write_dataset

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_cache")]

IDS = torch.tensor([[3, 9, 40, 41, 77]])
LIMITED = """
import resource, sys
from exporters.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "Tiny")


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def write_adapter(
    base: Path,
    folder: Path,
    *,
    seed: int = 0,
    save_embedding_layers: bool | str = "auto",
    **config: Any,
) -> Path:
    """An adapter whose weights have moved at random from where they began, as peft saves it."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear"} | config
    adapted = peft.get_peft_model(load(base), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    adapted.save_pretrained(folder, save_embedding_layers=save_embedding_layers)
    return folder


def call(base: Path, out: Path, *adapters: object, more: tuple[str, ...] = ()) -> list[str]:
    named = [word for one in adapters for word in ("--adapter", str(one))]
    return ["merge", "--base", str(base), *named, "--out", str(out), *more]


def answer(
    capsys: pytest.CaptureFixture[str], arguments: list[str], *, status: int = 0
) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def refusal(capsys: pytest.CaptureFixture[str], base: Path, adapter: object) -> str:
    out = base.parent / "refused"
    told = answer(capsys, call(base, out, adapter), status=1)
    assert not out.exists()
    return str(told["error"])


def by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    merged = peft.PeftModel.from_pretrained(load(base), str(adapter)).merge_and_unload()
    weights: dict[str, torch.Tensor] = merged.state_dict()
    return weights


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "phi3"])
def test_it_is_what_peft_makes(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / name, name)
    adapter = write_adapter(base, tmp_path / "adapter")
    answer(capsys, call(base, tmp_path / "merged", adapter))
    wanted = by_peft(base, adapter)
    got = load(tmp_path / "merged").state_dict()
    assert got.keys() == wanted.keys()
    for tensor, weight in wanted.items():
        assert torch.allclose(got[tensor], weight, atol=1e-6, rtol=0), tensor
    changed = [t for t in wanted if not torch.equal(got[t], load(base).state_dict()[t])]
    assert len(changed) >= 8


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"layers\.1\.self_attn\.v_proj": 20}},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
        {"target_modules": ["embed_tokens", "lm_head", "v_proj"]},
    ],
    ids=["rslora", "patterns", "whole modules", "both ends"],
)
def test_kinds_of_lora(
    config: dict[str, Any], base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", **config)
    answer(capsys, call(base, tmp_path / "merged", adapter))
    got = load(tmp_path / "merged").state_dict()
    for tensor, weight in by_peft(base, adapter).items():
        assert torch.allclose(got[tensor], weight, atol=1e-6, rtol=0), tensor


@pytest.mark.parametrize(
    "config", [{"target_modules": ["embed_tokens", "v_proj"]}, {"target_modules": ["lm_head"]}]
)
def test_tied_ends_part_where_an_adapter_changes_one(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "qwen2", "qwen2")
    adapter = write_adapter(base, tmp_path / "adapter", **config)
    told = answer(capsys, call(base, tmp_path / "merged", adapter))
    assert told["untied"] is True
    unmerged = peft.PeftModel.from_pretrained(load(base), str(adapter)).eval()
    with torch.no_grad():
        wanted, got = unmerged(IDS).logits, load(tmp_path / "merged")(IDS).logits
        assert not torch.allclose(load(base)(IDS).logits, wanted, atol=1e-2)
    assert torch.allclose(got, wanted, atol=2e-4)


def test_several_adapters_count_by_their_weights(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_adapter(base, tmp_path / "first", seed=1)
    second = write_adapter(base, tmp_path / "second", seed=2, r=3, target_modules=["q_proj"])
    out = tmp_path / "merged"
    answer(capsys, call(base, out, f"{first}=0.5", f"{second}=-2"))
    plain, got = load(base).state_dict(), load(out).state_dict()
    deltas = [
        {name: by_peft(base, one)[name] - plain[name] for name in plain} for one in (first, second)
    ]
    for name, weight in plain.items():
        wanted = weight + 0.5 * deltas[0][name] - 2 * deltas[1][name]
        assert torch.allclose(got[name], wanted, atol=2e-6, rtol=0), name
    lineage = json.loads((out / "lineage.json").read_text())
    assert [(one["name"], one["weight"]) for one in lineage["adapters"]] == [
        ("first", 0.5),
        ("second", -2.0),
    ]


def test_a_model_in_several_files_stays_in_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "Parts", max_shard_size="150KB")
    adapter = write_adapter(base, tmp_path / "adapter")
    out = tmp_path / "merged"
    answer(capsys, call(base, out, adapter, more=("--dtype", "bfloat16")))
    files = sorted(path.name for path in base.glob("model-*.safetensors"))
    assert len(files) > 1
    assert sorted(path.name for path in out.glob("model-*.safetensors")) == files
    wanted = by_peft(base, adapter)
    model = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert model.dtype == torch.bfloat16
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, wanted[name].to(torch.bfloat16)), name


def test_files_without_the_bodys_prefix_are_understood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "gpt2", "gpt2")
    adapter = write_adapter(base, tmp_path / "adapter")
    wanted = by_peft(base, adapter)
    weights = load_file(base / "model.safetensors")
    bare = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    save_file(bare, base / "model.safetensors", metadata={"format": "pt"})
    answer(capsys, call(base, tmp_path / "merged", adapter))
    for name, weight in load(tmp_path / "merged").state_dict().items():
        assert torch.allclose(weight, wanted[name], atol=1e-6, rtol=0), name


def test_what_goes_with_the_weights(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (base / "LICENSE").write_text("Do as you like.\n")
    (base / "README.md").write_text("---\nlicense: mit\ntags: [x]\n---\n# Tiny\n\nA small one.\n")
    adapter = write_adapter(base, tmp_path / "adapter")
    out = tmp_path / "merged"
    arguments = call(base, out, adapter)
    assert answer(capsys, arguments)["made"] is True
    assert answer(capsys, arguments)["made"] is False

    Source(folder=out, origin="merged").check()
    assert Source(folder=out, origin="merged").licence() == "MIT"
    for same in ("LICENSE", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (out / same).read_bytes() == (base / same).read_bytes()
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\nbase_model: Tiny\n---\n")
    assert "### Tiny\n\nA small one." in card
    assert str(tmp_path) not in card + (out / "lineage.json").read_text()

    reference = load_file(out / REFERENCE_FILE)
    reader = Source(folder=out, origin="merged").text_reader()
    texts = golden_texts(reader)
    assert len(reference) == 2 * len(texts)
    model = load(out)
    for number, text in enumerate(texts):
        ids = reference[f"ids.{number}"]
        assert ids.tolist() == reader.encode(text)[: len(ids)]
        with torch.no_grad():
            wanted = model(ids[None]).logits[0]
        assert torch.allclose(reference[f"logits.{number}"], wanted, atol=1e-4)


def test_an_adapter_for_another_base_is_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_base(tmp_path / "other", "phi3")
    told = refusal(capsys, base, write_adapter(other, tmp_path / "a"))
    assert "adapter a was made for another base: Tiny (LlamaForCausalLM) has no layer" in told

    wide = write_base(tmp_path / "wide", "gemma3")
    told = refusal(capsys, base, write_adapter(wide, tmp_path / "b", target_modules=["k_proj"]))
    assert "k_proj is [32, 64] in Tiny, and [64, 64] in the adapter" in told

    adapter = write_adapter(base, tmp_path / "c", target_modules=["lm_head"])
    tensors = load_file(adapter / WEIGHTS_FILE)
    tensors = {
        name: tensor[:-20].contiguous() if ".lora_B." in name else tensor
        for name, tensor in tensors.items()
    }
    save_file(tensors, adapter / WEIGHTS_FILE)
    assert "the vocabularies differ" in refusal(capsys, base, adapter)


def test_an_adapter_knows_the_weights_it_was_trained_on(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_dataset(tmp_path / "train.jsonl")
    adapter = tmp_path / "adapter"
    words = ["--rank", "2", "--steps", "1", "--threads", "1"]
    train = ["train", "--base", str(base), "--dataset", str(dataset), "--out", str(adapter)]
    answer(capsys, [*train, *words])
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    told = refusal(capsys, base, adapter)
    assert "made for another base, Tiny: its weights' SHA-256 is" in told
    assert "--allow-other-base" in told
    anyway = call(base, tmp_path / "merged", adapter, more=("--allow-other-base",))
    assert answer(capsys, anyway)["made"] is True


def test_a_weight_that_is_no_number_is_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    assert "'much' is no weight" in refusal(capsys, base, f"{adapter}=much")


def test_damaged_and_pickled_files_are_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(base, tmp_path / "adapter")
    weights = adapter / WEIGHTS_FILE
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert f"{weights} is cut short" in refusal(capsys, base, adapter)

    weights.unlink()
    (adapter / "adapter_model.bin").write_bytes(b"never read")
    assert "only pickled weights, which can run code" in refusal(capsys, base, adapter)

    (adapter / "adapter_model.bin").unlink()
    weights.write_bytes(whole)
    model = base / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-100])
    assert f"{model} is cut short" in refusal(capsys, base, adapter)

    shutil.rmtree(adapter)
    assert "neither a model folder nor" in refusal(capsys, base, adapter)


def test_a_full_disk_leaves_nothing(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter")
    out = tmp_path / "place" / "merged"
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *call(base, out, adapter, more=("--json",))],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1, ended.stderr
    assert "model.safetensors cannot be written" in json.loads(ended.stdout)["error"]
    assert list(out.parent.iterdir()) == []
