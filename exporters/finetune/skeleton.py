"""A base's layers without its weights: what an adapter may go to, and where it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from exporters.errors import ExportError, Refused
from exporters.finetune.adapters import Part
from exporters.model.source import Source
from exporters.trace.quiet import quiet


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """The base's model on torch's meta device."""

    model: Any
    origin: str
    embedding: str
    """The embedding's weight; its name."""
    head: str
    tied: bool
    """Whether head and embedding are one weight."""

    @classmethod
    def of(cls, source: Source) -> Skeleton:
        """Build the base's layers.

        Raises:
            Refused: transformers does not know the architecture.
        """
        try:
            with quiet(), torch.device("meta"):
                config = AutoConfig.from_pretrained(
                    source.folder, trust_remote_code=False, local_files_only=True
                )
                model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        except (ValueError, KeyError, OSError) as error:
            kind = source.config.get("model_type", "no model_type")
            raise Refused(f"transformers does not know this architecture ({kind})") from error
        names = {id(module): name for name, module in model.named_modules()}
        return cls(
            model=model,
            origin=source.origin,
            embedding=f"{names[id(model.get_input_embeddings())]}.weight",
            head=f"{names[id(model.get_output_embeddings())]}.weight",
            tied=bool(config.get_text_config().tie_word_embeddings),
        )

    @property
    def ends(self) -> tuple[str, str]:
        """The two weights that may be one."""
        return self.embedding, self.head

    def check(self, adapter: str, part: Part) -> bool:
        """Whether the layer keeps its weight as [in, out], which turns an adapter's delta.

        Raises:
            Refused: the base has no such layer, or one of another shape.
        """
        try:
            weight = self.model.get_submodule(part.module).weight
        except AttributeError:
            raise Refused(
                f"adapter {adapter} was made for another base: {self.origin}"
                f" ({type(self.model).__name__}) has no layer {part.module}"
            ) from None
        layer = self.model.get_submodule(part.module)
        turned = isinstance(layer, Conv1D | nn.Embedding) and "whole" not in part.tensors
        shape = tuple(reversed(weight.shape)) if turned else tuple(weight.shape)
        if shape != part.shape:
            raise Refused(
                f"adapter {adapter} was made for another base: {part.module} is"
                f" {list(shape)} in {self.origin}, and {list(part.shape)} in the adapter"
                f"{self._vocabulary(part)}"
            )
        return turned

    def stored_names(self, stored: Mapping[str, object], *, untied: bool) -> dict[str, str]:
        """Tensors to write, each with the stored one that it comes from.

        Raises:
            ExportError: an end of the model that has to be its own is not stored.
        """
        names = {name: name for name in stored}
        if not untied:
            return names
        given = {self.name_of(name): name for name in stored}
        shared = given.get(self.embedding, given.get(self.head))
        if shared is None:
            raise ExportError(f"{self.origin}: the weights hold no {self.embedding}")
        for end in self.ends:
            names.setdefault(given.get(end, end), shared)
        return names

    def name_of(self, stored: str) -> str:
        """What the model calls a stored tensor: files of a bare body leave out its prefix."""
        prefix = f"{self.model.base_model_prefix}."
        known = stored in self._names or prefix + stored not in self._names
        return stored if known else prefix + stored

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.model.state_dict())

    def _vocabulary(self, part: Part) -> str:
        ends = (end.removesuffix(".weight") for end in self.ends)
        return "; the vocabularies differ" if part.module in ends else ""
