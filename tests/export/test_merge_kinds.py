"""Every kind of LoRA that is understood, against peft with the adapter on and merged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from exporters.__main__ import main
from exporters.model.lora import WEIGHTS_FILE
from exporters.model.lora_config import CONFIG_FILE, FIELDS, STARTS, STARTS_WITHOUT_TRACE, Start
from tests.export.finetuning import write_base
from tests.export.test_merge import IDS, answer, by_peft, call, load, refusal, write_adapter

pytestmark = [
    pytest.mark.export,
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.filterwarnings("ignore:.*(fan_in_fan_out|tie_word_embeddings|save_embedding)"),
]

TOLERANCE = 1e-4
ENDS = ["embed_tokens", "lm_head"]

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("llama", {"use_dora": True}),
    "dora turned": ("gpt2", {"use_dora": True}),
    "dora on the embedding": ("llama", {"use_dora": True, "target_modules": ["embed_tokens"]}),
    "rank-stabilised dora": ("llama", {"use_dora": True, "use_rslora": True}),
    "all biases": ("qwen2", {"bias": "all"}),
    "all biases turned": ("gpt2", {"bias": "all"}),
    "biases of its layers": ("qwen2", {"bias": "lora_only", "target_modules": ["q_proj"]}),
    "bias of the matrices": ("qwen2", {"lora_bias": True, "target_modules": ["q_proj", "v_proj"]}),
    "pissa": ("llama", {"init_lora_weights": "pissa"}),
    "pissa turned": ("gpt2", {"init_lora_weights": "pissa"}),
    "pissa on the head": (
        "llama",
        {"init_lora_weights": "pissa", "target_modules": ["lm_head", "q_proj"]},
    ),
    "pissa with dora": ("llama", {"init_lora_weights": "pissa", "use_dora": True}),
    "rank-stabilised pissa": ("llama", {"init_lora_weights": "pissa", "use_rslora": True}),
    "olora": ("llama", {"init_lora_weights": "olora"}),
    "olora on the head": (
        "llama",
        {"init_lora_weights": "olora", "target_modules": ["lm_head", "down_proj"]},
    ),
    "orthogonal": ("llama", {"init_lora_weights": "orthogonal"}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "head": ("llama", {"target_modules": ["lm_head", "q_proj"]}),
    "both ends": ("llama", {"target_modules": ENDS}),
    "whole embedding, tied": ("qwen2", {"modules_to_save": ["embed_tokens"]}),
    "whole head, tied": ("qwen2", {"modules_to_save": ["lm_head"]}),
    "whole ends, tied": ("qwen2", {"modules_to_save": ENDS}),
    "whole ends, kept tied": (
        "qwen2",
        {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "whole norms": ("llama", {"modules_to_save": ["input_layernorm"]}),
}
CHANGED_TWICE: dict[str, tuple[str, dict[str, Any]]] = {
    "embedding, tied": ("qwen2", {"target_modules": ["embed_tokens", "q_proj"]}),
    "head, tied": ("qwen2", {"target_modules": ["lm_head", "q_proj"]}),
    "both ends, tied": ("qwen2", {"target_modules": ENDS}),
    "both ends, kept tied": (
        "qwen2",
        {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "dora on the embedding, tied": (
        "qwen2",
        {"use_dora": True, "target_modules": ["embed_tokens"]},
    ),
    "layers repeated": ("llama", {"layer_replication": [[0, 2], [1, 2], [0, 1]]}),
    "layers left out": ("llama", {"layer_replication": [[1, 2]]}),
}
"""peft's own merging changes weights that several layers share once for each of them, or for all
where only one of them is adapted, and comes to another model than the one that it was asked to
merge: these are held to that one, and to what peft merges where each layer has a weight of its
own."""


def with_peft(base: Path, adapter: Path) -> torch.Tensor:
    """Logits of the base with the adapter on it."""
    with torch.no_grad():
        logits: torch.Tensor = (
            peft.PeftModel.from_pretrained(load(base), str(adapter))
            .eval()(IDS, use_cache=False)
            .logits
        )
    return logits


def untied(base: Path, folder: Path) -> Path:
    """The same model, its head and its embedding stored apart."""
    model = load(base)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.get_input_embeddings().weight.detach().clone())
    model.save_pretrained(folder)
    return folder


def logits_of(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = load(folder)(IDS).logits
    return logits


@pytest.mark.parametrize("kind", [*KINDS, *CHANGED_TWICE])
def test_a_kind_comes_to_what_peft_has(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, config = (KINDS | CHANGED_TWICE)[kind]
    base = write_base(tmp_path / "Base", name)
    adapter = write_adapter(base, tmp_path / "adapter", **config)
    answer(capsys, call(base, tmp_path / "merged", adapter))
    wanted = with_peft(base, adapter)
    assert torch.allclose(logits_of(tmp_path / "merged"), wanted, atol=TOLERANCE, rtol=0)
    assert not torch.allclose(logits_of(base), wanted, atol=1e-2)
    if kind in KINDS:
        got = load(tmp_path / "merged").state_dict()
        for tensor, weight in by_peft(base, adapter).items():
            assert torch.allclose(got[tensor], weight, atol=TOLERANCE, rtol=0), tensor


@pytest.mark.parametrize("kind", [kind for kind in CHANGED_TWICE if kind.endswith(", tied")])
def test_tied_ends_come_to_what_peft_merges_into_them_apart(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, config = CHANGED_TWICE[kind]
    base = write_base(tmp_path / "Base", name)
    adapter = write_adapter(base, tmp_path / "adapter", **config)
    told = answer(capsys, call(base, tmp_path / "merged", adapter))
    assert told["untied"] is True
    got = load(tmp_path / "merged").state_dict()
    for tensor, weight in by_peft(untied(base, tmp_path / "Apart"), adapter).items():
        assert torch.allclose(got[tensor], weight, atol=TOLERANCE, rtol=0), tensor
    shared = by_peft(base, adapter)
    assert any(
        not torch.allclose(shared[tensor], weight, atol=1e-2) for tensor, weight in got.items()
    ), "peft merges into a shared weight as trained: hold this kind to that, too"


def test_embeddings_saved_beside_an_adapter_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "Base", "qwen2")
    adapter = write_adapter(base, tmp_path / "adapter", save_embedding_layers=True)
    tensors = load_file(adapter / WEIGHTS_FILE)
    assert sum("layers." not in name for name in tensors) == 2
    told = answer(capsys, call(base, tmp_path / "merged", adapter))
    assert told["changed_weights"] > 2
    wanted = with_peft(base, adapter)
    assert torch.allclose(logits_of(tmp_path / "merged"), wanted, atol=TOLERANCE, rtol=0)


def test_an_embedding_of_another_length_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "Base")
    adapter = write_adapter(base, tmp_path / "adapter", target_modules=["embed_tokens"])
    tensors = load_file(adapter / WEIGHTS_FILE)
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    tensors[name] = torch.cat([tensors[name], tensors[name][:3]])
    save_file(tensors, adapter / WEIGHTS_FILE)
    assert "the vocabularies differ" in refusal(capsys, base, adapter)


def test_half_a_dora_goes_half_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base(tmp_path / "Base")
    adapter = write_adapter(base, tmp_path / "adapter", use_dora=True)
    answer(capsys, call(base, tmp_path / "half", f"{adapter}=0.5"))
    plain, whole, half = load(base).state_dict(), by_peft(base, adapter), load(tmp_path / "half")
    for name, weight in half.state_dict().items():
        wanted = (plain[name] + whole[name]) / 2
        assert torch.allclose(weight, wanted, atol=TOLERANCE, rtol=0), name


def test_repeated_layers_make_a_longer_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "Base")
    longer = write_adapter(base, tmp_path / "longer", layer_replication=[[0, 2], [0, 1]])
    plain = write_adapter(base, tmp_path / "plain")
    answer(capsys, call(base, tmp_path / "merged", longer))
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["num_hidden_layers"] == 3
    told = answer(capsys, call(base, tmp_path / "x", longer, plain), status=1)
    assert "adapters longer and plain are for other layers" in told["error"]
    settings = json.loads((longer / CONFIG_FILE).read_text())
    changed = settings | {"layer_replication": [[0, 9]]}
    (longer / CONFIG_FILE).write_text(json.dumps(changed))
    assert "layer_replication goes beyond the 2 layers of Base" in refusal(capsys, base, longer)


def test_a_bias_without_a_place_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "Base")
    adapter = write_adapter(base, tmp_path / "adapter", lora_bias=True, target_modules=["q_proj"])
    told = refusal(capsys, base, adapter)
    assert "changes the bias of model.layers.0.self_attn.q_proj, and that of Base has none" in told


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lora_alpha": None}, "lora_alpha is None, not a number"),
        ({"r": 0}, "r is 0, not a whole number of at least 1"),
        ({"r": 8}, "its matrices are of rank 4, and adapter_config.json says 8"),
        ({"use_dora": True}, "has no magnitude, and use_dora is true"),
        ({"alora_invocation_tokens": [1]}, "'alora_invocation_tokens' cannot be used: it counts"),
        ({"use_qalora": True}, "'use_qalora' cannot be used: it is bound to a quantised base"),
        ({"arrow_config": {"top_k": 1}}, "'arrow_config' cannot be used: it is a router"),
        ({"new_in_2030": 3}, "'new_in_2030' cannot be used: what it does is not known here"),
    ],
)
def test_what_is_broken_or_unknown_is_one_line(
    change: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(tmp_path / "Base")
    adapter = write_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    config = json.loads((adapter / CONFIG_FILE).read_text())
    (adapter / CONFIG_FILE).write_text(json.dumps(config | change))
    assert reason in refusal(capsys, base, adapter)
    bare = ["merge", "--adapter", str(adapter), "--out", str(tmp_path / "x"), "--json"]
    assert main(bare) == 1
    assert reason in json.loads(capsys.readouterr().out)["error"]


def test_every_field_of_pefts_is_in_the_list() -> None:
    assert {field.name for field in dataclasses.fields(peft.LoraConfig)} <= FIELDS.keys()


def test_every_way_to_begin_of_pefts_is_in_a_list() -> None:
    told = str(peft.LoraConfig.__annotations__["init_lora_weights"])
    for start in ("gaussian", "eva", "olora", "pissa", "corda", "loftq", "orthogonal", "mica"):
        assert f"'{start}'" in told.replace('"', "'") or start in told
        known = STARTS_WITHOUT_TRACE | {one.value for one in Start} | STARTS.keys()
        assert start in known
