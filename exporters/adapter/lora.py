"""Reading a LoRA as peft saves it: the matrices of each module, and what cannot be served."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError, Refused

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
FIRST, SECOND = ".lora_A.weight", ".lora_B.weight"
UNSERVED = {
    "use_dora": "DoRA scales the base's own weights",
    "modules_to_save": "it replaces whole modules of the base",
    "layer_replication": "it repeats layers of the base",
    "trainable_token_indices": "it changes embeddings",
    "target_parameters": "it changes parameters that are no modules",
    "lora_bias": "it adds biases",
    "megatron_config": "it is for Megatron's layers",
}
"""Setting -> why an adapter that has it needs to be merged."""
CHANGES_BASE = ("pissa", "olora", "corda", "loftq")
"""Ways to begin that take something out of the base's weights."""

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Lora:
    """Module -> float32 [rank, input width] and [rank, output width]; the second is scaled."""

    matrices: dict[str, Pair]
    base: str | None
    """The model that it says it was made for."""

    @property
    def ranks(self) -> tuple[int, ...]:
        """Those that occur."""
        return tuple(sorted({len(a) for a, _ in self.matrices.values()}))


def read_lora(folder: Path) -> Lora:
    """The LoRA in `folder`.

    Raises:
        ExportError: it is damaged, or none.
        Refused: it has something that cannot be served beside a base.
    """
    config = _read_config(folder / CONFIG_FILE)
    _check(config)
    first, second = _by_module(_read_tensors(folder / WEIGHTS_FILE))
    if not first or set(first) != set(second):
        odd = sorted(set(first) ^ set(second))
        raise ExportError(
            f"{folder / WEIGHTS_FILE} has no whole pair for {odd[:1] or 'any module'}"
        )
    matrices = {name: _scaled(name, config, first[name], second[name]) for name in sorted(first)}
    return Lora(matrices=matrices, base=config.get("base_model_name_or_path"))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise Refused(f"{path} is no LoRA's; other kinds have to be merged")
    return config


def _check(config: dict[str, Any]) -> None:
    for setting, why in UNSERVED.items():
        if config.get(setting):
            raise Refused(f"the adapter has {setting}: {why}; merge it instead")
    if config.get("bias", "none") != "none":
        raise Refused("the adapter trains biases of the base; merge it instead")
    begun = str(config.get("init_lora_weights", True)).lower()
    if begun.startswith(CHANGES_BASE):
        raise Refused(f"the adapter began as {begun}, which changes the base; merge it instead")


def _read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path}: {error}") from error


def _by_module(
    tensors: dict[str, NDArray[np.float32]],
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """The first and the second matrices."""
    found: tuple[dict[str, NDArray[np.float32]], ...] = ({}, {})
    for name, tensor in tensors.items():
        module = name.removeprefix(PREFIX)
        ending = next((end for end in (FIRST, SECOND) if module.endswith(end)), None)
        if ending is None or tensor.ndim != 2:
            raise Refused(f"the adapter has {name}, which only a merged model can have")
        if not np.isfinite(tensor).all():
            raise Refused(f"the adapter's {name} has values that are no numbers")
        found[ending == SECOND][module.removesuffix(ending)] = tensor
    return found[0], found[1]


def _scaled(
    module: str, config: dict[str, Any], a: NDArray[np.float32], b: NDArray[np.float32]
) -> Pair:
    rank = len(a)
    if b.shape[1] != rank:
        raise ExportError(f"the adapter's matrices for {module} are of ranks {rank}, {b.shape[1]}")
    alpha = _of_pattern(module, config.get("alpha_pattern") or {}, config["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return a, np.ascontiguousarray(b.T * np.float32(scale))


def _of_pattern(module: str, patterns: dict[str, float], otherwise: float) -> float:
    """What the first pattern says that a module's name ends with, as peft finds it."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise
