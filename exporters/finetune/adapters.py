"""LoRA adapters in peft's format, read from safetensors and held to the base they are for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open

from exporters.errors import ExportError, Refused
from exporters.finetune.lineage import (
    ADAPTER_CONFIG,
    ADAPTER_FILE,
    AdapterLineage,
    Base,
    read_adapter_lineage,
)
from exporters.model.source import read_safetensors_header
from nsedge.bundle.files import sha256_of

PREFIX = "base_model.model."
BIASES = "none"

REFUSED = {
    "use_dora": "DoRA scales whole rows, which is no sum of deltas",
    "lora_bias": "it has biases of its own",
    "layer_replication": "it repeats layers of its base",
    "trainable_token_indices": "it replaces rows of the embedding",
    "target_parameters": "it goes to bare parameters, not to layers",
    "use_qalora": "it is bound to a quantised base",
    "alora_invocation_tokens": "it counts only after certain tokens",
    "arrow_config": "it is a router over several adapters",
    "use_bdlora": "its matrices are block-diagonal",
    "kasa_config": "it cuts its base's smallest singular values",
    "monteclora_config": "it draws its weights at random",
    "ensure_weight_tying": "its head follows its embedding, which a merged model cannot",
    "velora_config": "its matrices are of another kind",
}
"""Fields of adapter_config.json that must be off, and what they mean. Source: peft's LoraConfig."""
CHANGED_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Ways to begin that subtract from the base's weights: a delta alone does not tell the result."""

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What an adapter does to one layer: A [r, in] and B [out, r], or a whole weight instead."""

    module: str
    """As the base's model names it."""
    tensors: dict[str, str]
    """`A` and `B`, or `whole`: the tensors' names in the file."""
    shape: tuple[int, ...]
    """Of the weight that it is for; of A and B [out, in]."""
    scale: float


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter's folder; `weight` is how much of it is wanted."""

    folder: Path
    name: str
    weight: float = 1.0

    @cached_property
    def config(self) -> Json:
        """What `config_file` holds.

        Raises:
            ExportError: it is missing or damaged.
        """
        path = self.config_file
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ExportError(f"{path}: {reason}; is {self.folder} an adapter?") from error
        if not isinstance(content, dict):
            raise ExportError(f"{path}: not a JSON object")
        return content

    @property
    def config_file(self) -> Path:
        """adapter_config.json."""
        return self.folder / ADAPTER_CONFIG

    @property
    def weights(self) -> Path:
        """adapter_model.safetensors."""
        return self.folder / ADAPTER_FILE

    @cached_property
    def sha256(self) -> str:
        """Of the weights."""
        return sha256_of(self.weights)

    @property
    def base_name(self) -> str | None:
        """What its configuration calls the base: a folder or a hub id, where it says so."""
        name = self.config.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None

    @cached_property
    def lineage(self) -> AdapterLineage | None:
        """What it says of its making, where this program made it."""
        return read_adapter_lineage(self.folder)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Layer by layer, sorted by name.

        Raises:
            ExportError: the weights are missing or damaged.
            Refused: it is of a kind that cannot be merged.
        """
        self._check_kind()
        shapes = {
            name: tuple(entry["shape"])
            for name, entry in read_safetensors_header(self._present_weights()).items()
            if name != "__metadata__"
        }
        found: dict[str, dict[str, str]] = {}
        for name in shapes:
            module, role = self._role(name)
            found.setdefault(module, {})[role] = name
        return tuple(self._part(module, found[module], shapes) for module in sorted(found))

    def tensors(self, part: Part) -> dict[str, Any]:
        """Its torch tensors in fp32, by role."""
        import torch

        with safe_open(self.weights, "pt") as file:
            return {
                role: file.get_tensor(name).to(torch.float32) for role, name in part.tensors.items()
            }

    def check_base(self, base: Base) -> None:
        """Hold what the adapter says of its base to the one that is given.

        Raises:
            Refused: it was made for another one.
        """
        if self.lineage is None:
            return
        for what, own, given in _differences(self.lineage.base, base):
            raise Refused(
                f"adapter {self.name} was made for another base, {self.lineage.base.origin}:"
                f" its {what} is {own}, that of {base.origin} is {given};"
                " --allow-other-base merges it all the same where its shapes fit"
            )

    def _present_weights(self) -> Path:
        if self.weights.is_file():
            return self.weights
        if any(self.folder.glob("*.bin")):
            raise Refused(
                f"{self.folder}: only pickled weights, which can run code; load the adapter with"
                " peft where you trust it, and save_pretrained(..., safe_serialization=True)"
            )
        raise ExportError(f"{self.weights}: missing weights")

    def _check_kind(self) -> None:
        kind = self.config.get("peft_type")
        if kind != "LORA":
            raise Refused(f"adapter {self.name} is of kind {kind}; only LORA can be merged")
        for field, reason in REFUSED.items():
            if self.config.get(field):
                raise Refused(f"adapter {self.name} cannot be merged ({field}): {reason}")
        if self.config.get("bias", BIASES) != BIASES:
            raise Refused(f"adapter {self.name} cannot be merged (bias): it trained biases, too")
        start = self.config.get("init_lora_weights")
        if isinstance(start, str) and start.startswith(CHANGED_BASE):
            raise Refused(
                f"adapter {self.name} began from {start}, which changes the base; convert it with"
                " peft's save_pretrained(path_initial_model_for_weight_conversion=...)"
            )

    def _role(self, name: str) -> tuple[str, str]:
        match = re.fullmatch(
            rf"{re.escape(PREFIX)}(?P<module>.+?)\."
            r"(?:lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?|(?P<whole>weight))",
            name,
        )
        if match is None:
            raise Refused(f"{self.weights}: a tensor {name}, which no LoRA has")
        return match["module"], match["side"] or "whole"

    def _part(self, module: str, tensors: dict[str, str], shapes: dict[str, Any]) -> Part:
        if "whole" in tensors:
            shape = shapes[tensors["whole"]]
            return Part(module=module, tensors=tensors, shape=shape, scale=1.0)
        if set(tensors) != {"A", "B"}:
            raise ExportError(f"{self.weights}: {module} has only one of its two matrices")
        first, second = shapes[tensors["A"]], shapes[tensors["B"]]
        if len(first) != 2 or len(second) != 2 or first[0] != second[1]:
            raise ExportError(
                f"{self.weights}: {module}: {list(second)} x {list(first)} do not fit each other"
            )
        rank = first[0]
        alpha = _by_pattern(self.config.get("alpha_pattern"), module, self.config["lora_alpha"])
        divisor = math.sqrt(rank) if self.config.get("use_rslora") else rank
        return Part(
            module=module,
            tensors=tensors,
            shape=(second[0], first[1]),
            scale=float(alpha) / divisor,
        )


def _by_pattern(patterns: Any, module: str, default: Any) -> Any:
    """As peft finds it: the first pattern that the end of the name matches."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            return value
    return default


def _differences(own: Base, given: Base) -> Iterator[tuple[str, object, object]]:
    for what, field in (
        ("architecture", "architecture"),
        ("vocabulary (tokens)", "vocabulary"),
        ("vocabulary (SHA-256 of tokenizer.json)", "tokenizer_sha256"),
        ("weights' SHA-256", "weights_sha256"),
    ):
        if getattr(own, field) != getattr(given, field):
            yield what, getattr(own, field), getattr(given, field)
