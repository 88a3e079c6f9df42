"""The tensors of a LoRA as peft saves them: which of a model's weights they change, and how."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from exporters.errors import ExportError, Refused
from exporters.model.files import read_safetensors_header
from exporters.model.lora_config import LoraConfig, Start, read_lora_config

WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."


class Role(StrEnum):
    """What a tensor is to the weight or bias that it changes."""

    FIRST = "A"
    """[rank, inputs]"""
    SECOND = "B"
    """[outputs, rank]"""
    MAGNITUDE = "magnitude"
    """DoRA's length of each row, [outputs] (arXiv 2402.09353)."""
    BASE = "base"
    """The base's own weight, saved beside an embedding's matrices."""
    ADDED = "added"
    """To be scaled and added."""
    WHOLE = "whole"
    """It takes the place of the base's."""


_NAME = re.compile(
    re.escape(PREFIX) + r"(?P<module>.+?)\.(?:"
    r"lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.weight)?"
    r"|(?P<added>lora_B\.bias)"
    r"|(?P<base>base_layer\.weight)"
    r"|(?:base_layer\.)?(?P<whole_bias>bias)"
    r"|(?P<whole>weight))"
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What an adapter does to the weight, or the bias, of one module."""

    module: str
    """As the base's model names it."""
    of: str
    """`weight` or `bias`; of a module within one that is put in place whole, any tensor of it."""
    tensors: dict[Role, str]
    """Their names in the file."""
    shape: tuple[int, ...]
    """[outputs, inputs] of its matrices, or that of the tensor that is added or put in place."""
    base_shape: tuple[int, ...] | None = None
    """Of the base's own weight, where that is saved beside the matrices."""
    rank: int = 0
    """Of its matrices; 0 without them."""
    is_embedding: bool = False
    """Whether its inputs are tokens, so that its weight stands as [inputs, outputs]."""
    scale: float
    start: Start

    @property
    def target(self) -> str:
        """The name of what it changes."""
        return f"{self.module}.{self.of}"

    @property
    def is_plain(self) -> bool:
        """Whether it is a product beside a linear layer's own, and nothing else."""
        return set(self.tensors) == {Role.FIRST, Role.SECOND} and not self.is_embedding


@dataclass(frozen=True)
class Lora:
    """A folder with adapter_config.json and adapter_model.safetensors."""

    folder: Path

    @cached_property
    def config(self) -> LoraConfig:
        """What its configuration says.

        Raises:
            ExportError: it is missing or damaged.
            Refused: it is of a kind that cannot be used.
        """
        return read_lora_config(self.folder)

    @property
    def weights(self) -> Path:
        """The file of its tensors."""
        return self.folder / WEIGHTS_FILE

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What it does, sorted by what it changes.

        Raises:
            ExportError: the configuration or the weights are missing or damaged.
            Refused: it is of a kind that cannot be used.
        """
        config = self.config
        shapes = {
            name: tuple(entry["shape"])
            for name, entry in read_safetensors_header(self._present_weights()).items()
            if name != "__metadata__"
        }
        found: dict[tuple[str, str], dict[Role, str]] = {}
        embeddings = set()
        for name in shapes:
            module, of, role, is_embedding = self._place(name)
            found.setdefault((module, of), {})[role] = name
            if is_embedding:
                embeddings.add(module)
        if not found:
            raise ExportError(f"{self.weights}: no tensors")
        parts: list[Part] = []
        for (module, of), tensors in sorted(found.items()):
            read = _Reading(self.weights, config, module, shapes)
            parts += read.parts(of, tensors, is_embedding=module in embeddings)
        return tuple(parts)

    def tensors(self, part: Part) -> dict[Role, Any]:
        """Its torch tensors in fp32, by role.

        Raises:
            ExportError: the file is damaged.
        """
        import torch

        try:
            with safe_open(self.weights, "pt") as file:
                found = {role: file.get_tensor(name) for role, name in part.tensors.items()}
        except (SafetensorError, KeyError) as error:
            raise ExportError(f"{self.weights}: {error}") from error
        return {role: tensor.to(torch.float32) for role, tensor in found.items()}

    def _present_weights(self) -> Path:
        if self.weights.is_file():
            return self.weights
        if any(self.folder.glob("*.bin")):
            raise Refused(
                f"{self.folder}: only pickled weights, which can run code; load the adapter with"
                " peft where you trust it, and save_pretrained(..., safe_serialization=True)"
            )
        raise ExportError(f"{self.weights}: missing weights")

    def _place(self, name: str) -> tuple[str, str, Role, bool]:
        """The module of a tensor, what of it, in which role, and whether that is an embedding."""
        match = _NAME.fullmatch(name)
        if match is None:
            module, _, of = name.removeprefix(PREFIX).rpartition(".")
            if not self._is_whole(module):
                raise Refused(f"{self.weights}: a tensor {name}, which is not known of a LoRA")
            return module, of, Role.WHOLE, False
        module, is_embedding = match["module"], match["embedding"] is not None
        if match["side"]:
            return module, "weight", Role(match["side"]), is_embedding
        if match["magnitude"]:
            return module, "weight", Role.MAGNITUDE, False
        if match["base"]:
            return module, "weight", Role.BASE, False
        if match["added"]:
            return module, "bias", Role.ADDED, False
        return module, "bias" if match["whole_bias"] else "weight", Role.WHOLE, False

    def _is_whole(self, module: str) -> bool:
        """Whether it lies in one that was learnt whole."""
        return not set(module.split(".")).isdisjoint(self.config.whole)


@dataclass(frozen=True)
class _Reading:
    """Holds the tensors of one module to each other and to the configuration."""

    file: Path
    config: LoraConfig
    module: str
    shapes: dict[str, tuple[int, ...]]

    def parts(self, of: str, tensors: dict[Role, str], *, is_embedding: bool) -> Iterator[Part]:
        """What they do to the module's weight, or to its bias."""
        matrices = tensors.keys() - {Role.WHOLE, Role.ADDED}
        for role in (Role.WHOLE, Role.ADDED):
            if role in tensors:
                yield Part(
                    module=self.module,
                    of=of,
                    tensors={role: tensors[role]},
                    shape=self.shapes[tensors[role]],
                    scale=1.0 if role is Role.WHOLE else self.config.scale_of(self.module),
                    start=Start.NOTHING,
                )
        if matrices:
            if not {Role.FIRST, Role.SECOND} <= matrices:
                raise ExportError(f"{self.file}: {self.module} has only one of its two matrices")
            yield self._product({role: tensors[role] for role in matrices}, is_embedding)

    def _product(self, tensors: dict[Role, str], is_embedding: bool) -> Part:
        first, second = self.shapes[tensors[Role.FIRST]], self.shapes[tensors[Role.SECOND]]
        if len(first) != 2 or len(second) != 2 or first[0] != second[1]:
            raise ExportError(
                f"{self.file}: {self.module}: {list(second)} x {list(first)} do not fit each other"
            )
        rank = self.config.rank_of(self.module)
        if first[0] != rank:
            raise ExportError(
                f"{self.file}: {self.module}: its matrices are of rank {first[0]}, and"
                f" {self.config.path.name} says {rank}"
            )
        has_magnitude = Role.MAGNITUDE in tensors
        if has_magnitude != self.config.is_dora:
            raise ExportError(
                f"{self.file}: {self.module} has {'a' if has_magnitude else 'no'} magnitude, and"
                f" use_dora is {str(self.config.is_dora).lower()} in {self.config.path.name}"
            )
        if has_magnitude and self.shapes[tensors[Role.MAGNITUDE]] != second[:1]:
            raise ExportError(
                f"{self.file}: {self.module}: its magnitude does not fit its matrices"
            )
        if is_embedding and self.config.start is not Start.NOTHING:
            raise Refused(
                f"{self.file}: an embedding that began as {self.config.start.value}, which peft"
                " does not know"
            )
        return Part(
            module=self.module,
            of="weight",
            tensors=tensors,
            shape=(second[0], first[1]),
            base_shape=self.shapes[tensors[Role.BASE]] if Role.BASE in tensors else None,
            rank=rank,
            is_embedding=is_embedding,
            scale=self.config.scale_of(self.module),
            start=self.config.start,
        )
