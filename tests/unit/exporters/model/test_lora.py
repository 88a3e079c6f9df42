"""The tensors of a LoRA: what each does to which weight, and one line for what is damaged."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from exporters.errors import ExportError, Refused
from exporters.model.lora import PREFIX, WEIGHTS_FILE, Lora, Role
from exporters.model.lora_config import CONFIG_FILE

Q = "model.layers.0.self_attn.q_proj"
PAIR = {"lora_A.weight": (2, 8), "lora_B.weight": (6, 2)}


def lora(folder: Path, tensors: dict[str, tuple[int, ...]], **config: Any) -> Lora:
    """An adapter with tensors of these shapes, by their names without the prefix."""
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 6} | config
    (folder / CONFIG_FILE).write_text(json.dumps(told))
    filled = {PREFIX + name: np.ones(shape, np.float16) for name, shape in tensors.items()}
    save_file(filled, folder / WEIGHTS_FILE)
    return Lora(folder)


def on(module: str, tensors: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"{module}.{name}": shape for name, shape in tensors.items()}


def test_each_tensor_has_its_role(tmp_path: Path) -> None:
    tensors = on(Q, PAIR | {"lora_magnitude_vector": (6,), "lora_B.bias": (6,)})
    tensors |= on(
        "model.embed_tokens",
        {
            "lora_embedding_A": (2, 30),
            "lora_embedding_B": (8, 2),
            "lora_magnitude_vector": (8,),
            "base_layer.weight": (30, 8),
        },
    )
    tensors |= on("model.norm", {"weight": (8,)}) | on(f"{Q}.base_layer", {"bias": (6,)})
    parts = {part.target: part for part in lora(tmp_path, tensors, use_dora=True).parts[:3]}
    embedding = parts["model.embed_tokens.weight"]
    assert (embedding.shape, embedding.base_shape) == ((8, 30), (30, 8))
    assert embedding.is_embedding
    assert set(embedding.tensors) == {Role.FIRST, Role.SECOND, Role.MAGNITUDE, Role.BASE}
    biases = [part for part in Lora(tmp_path).parts if part.target == f"{Q}.bias"]
    assert [(set(part.tensors), part.scale) for part in biases] == [
        ({Role.WHOLE}, 1.0),
        ({Role.ADDED}, 3.0),
    ]
    product = next(part for part in Lora(tmp_path).parts if part.target == f"{Q}.weight")
    assert (product.shape, product.rank, product.scale) == ((6, 8), 2, 3.0)
    assert not product.is_plain
    norm = next(part for part in Lora(tmp_path).parts if part.target == "model.norm.weight")
    assert (set(norm.tensors), norm.shape) == ({Role.WHOLE}, (8,))


def test_matrices_alone_are_plain_and_come_in_fp32(tmp_path: Path) -> None:
    (part,) = lora(tmp_path, on(Q, PAIR)).parts
    assert part.is_plain
    tensors = Lora(tmp_path).tensors(part)
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float32"}


@pytest.mark.parametrize(
    ("tensors", "config", "reason"),
    [
        (on(Q, {"lora_A.weight": (2, 8)}), {}, "has only one of its two matrices"),
        (on(Q, PAIR | {"lora_B.weight": (6, 3)}), {}, r"\[6, 3\] x \[2, 8\] do not fit"),
        (on(Q, PAIR | {"lora_B.weight": (2,)}), {}, "do not fit each other"),
        (on(Q, PAIR), {"r": 4}, "of rank 2, and adapter_config.json says 4"),
        (on(Q, PAIR), {"rank_pattern": {"q_proj": 3}}, "of rank 2, and adapter_config.json says 3"),
        (on(Q, PAIR), {"use_dora": True}, "has no magnitude, and use_dora is true"),
        (on(Q, PAIR | {"lora_magnitude_vector": (6,)}), {}, "has a magnitude, and use_dora is"),
        (
            on(Q, PAIR | {"lora_magnitude_vector": (5,)}),
            {"use_dora": True},
            "its magnitude does not fit",
        ),
        ({}, {}, "no tensors"),
    ],
)
def test_tensors_that_do_not_fit_are_told(
    tensors: dict[str, tuple[int, ...]], config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=reason):
        _ = lora(tmp_path, tensors, **config).parts


@pytest.mark.parametrize("name", [f"{Q}.lora_velora_embed", f"{Q}.lora_diag", "x"])
def test_a_tensor_that_is_not_known_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"a tensor {PREFIX}{name}, which is not known"):
        _ = lora(tmp_path, on(Q, PAIR) | {name: (2, 2)}).parts


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"7",
        b'{"a": 5}',
        b'{"a": {"data_offsets": []}}',
        b'{"a": {}}',
        b"\xff\xff",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_damaged_file_is_told_in_a_line(header: bytes, tmp_path: Path) -> None:
    damaged = lora(tmp_path, on(Q, PAIR))
    damaged.weights.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ExportError, match="is no safetensors file"):
        _ = damaged.parts
