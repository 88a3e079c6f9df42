"""A base's layers without its weights: what an adapter may go to, and where it is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig
from transformers.pytorch_utils import Conv1D

from exporters.errors import ExportError, Refused
from exporters.finetune.classes import model_class, sees
from exporters.model.environment import unknown_architecture
from exporters.model.files import Json
from exporters.model.lora import Part, Role
from exporters.model.lora_config import Start
from exporters.model.source import Source
from exporters.trace.quiet import quiet

_LAYER = re.compile(r"(?P<before>(?:.*?\.)?(?:layers|h)\.)(?P<number>\d+)(?P<after>\..+)")
"""A tensor of a layer, as peft finds layers to repeat."""

RENAMED = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)
"""How tensors of a LLaVA begin in files, and in the model."""


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
    layers: tuple[int, ...] | None
    """The base's layer that each layer is; None where they are those of the base."""

    @classmethod
    def of(cls, source: Source, replication: tuple[tuple[int, int], ...] = ()) -> Skeleton:
        """Build the base's layers, or runs of them, [begin, end), one after the other.

        Raises:
            Refused: transformers does not know the architecture, or the base has less layers.
        """
        layers = tuple(n for begin, end in replication for n in range(begin, end)) or None
        if layers is not None and sees(source):
            raise Refused(f"layer_replication has no form in {source.origin}, which sees")
        count = source.config.get("num_hidden_layers")
        if layers is not None and (type(count) is not int or max(layers) >= count):
            raise Refused(f"layer_replication goes beyond the {count} layers of {source.origin}")
        try:
            with quiet(), torch.device("meta"):
                config = AutoConfig.from_pretrained(
                    source.folder,
                    trust_remote_code=False,
                    local_files_only=True,
                    **_replication(source.config, layers),
                )
                model = model_class(source).from_config(config, trust_remote_code=False)
        except (ValueError, KeyError, OSError) as error:
            raise unknown_architecture(source, transformers.__version__) from error
        names = {id(module): name for name, module in model.named_modules()}
        return cls(
            model=model,
            origin=source.origin,
            embedding=f"{names[id(model.get_input_embeddings())]}.weight",
            head=f"{names[id(model.get_output_embeddings())]}.weight",
            tied=bool(config.get_text_config().tie_word_embeddings),
            layers=layers,
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
        layer = self._layer(adapter, part)
        found = getattr(layer, part.of, None)
        if found is None:
            raise Refused(
                f"adapter {adapter} changes the {part.of} of {part.module}, and that of"
                f" {self.origin} has none"
            )
        turned = isinstance(layer, Conv1D | nn.Embedding) and Role.FIRST in part.tensors
        if turned and isinstance(layer, Conv1D) and part.start is Start.OLORA:
            raise Refused(
                f"adapter {adapter}: {part.module} stands as [in, out], which peft cannot begin as"
                " olora"
            )
        shape = tuple(reversed(found.shape)) if turned else tuple(found.shape)
        for own, given in ((shape, part.shape), (tuple(found.shape), part.base_shape)):
            if given not in (own, None):
                raise Refused(
                    f"adapter {adapter} was made for another base: {part.module} is"
                    f" {list(own)} in {self.origin}, and {list(given)} in the adapter"
                    f"{self._vocabulary(part)}"
                )
        return turned

    def _layer(self, adapter: str, part: Part) -> Any:
        try:
            return self.model.get_submodule(part.module)
        except AttributeError:
            raise Refused(
                f"adapter {adapter} was made for another base: {self.origin}"
                f" ({type(self.model).__name__}) has no layer {part.module}"
            ) from None

    def replicated(self, config: Json) -> Json:
        """The base's config.json with these layers."""
        return config | _replication(config, self.layers)

    def stored_names(self, stored: Mapping[str, object], *, untied: bool) -> dict[str, str]:
        """Tensors to write, each with the stored one that it comes from.

        Raises:
            ExportError: an end of the model that has to be its own is not stored.
        """
        names = {new: name for name in stored for new in self._replicas(name)}
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
        """What the model calls a stored tensor: files of a bare body leave out its prefix, and
        LLaVA's have other names."""
        others = [f"{self.model.base_model_prefix}.{stored}"]
        others += [stored.replace(old, new, 1) for old, new in RENAMED if stored.startswith(old)]
        return next((name for name in [stored, *others] if name in self._names), stored)

    def _replicas(self, stored: str) -> list[str]:
        """What a stored tensor is called in these layers: once in each that its layer is."""
        found = None if self.layers is None else _LAYER.fullmatch(stored)
        if found is None or self.layers is None:
            return [stored]
        return [
            f"{found['before']}{new}{found['after']}"
            for new, old in enumerate(self.layers)
            if old == int(found["number"])
        ]

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.model.state_dict())

    def _vocabulary(self, part: Part) -> str:
        ends = (end.removesuffix(".weight") for end in self.ends)
        return "; the vocabularies differ" if part.module in ends else ""


def _replication(config: Json, layers: tuple[int, ...] | None) -> Json:
    """What `layers` of the base's change in config.json: their number, and lists of all of them."""
    if layers is None:
        return {}
    count = config["num_hidden_layers"]
    lists = {k: v for k, v in config.items() if isinstance(v, list) and len(v) == count}
    changed: Json = {key: [value[n] for n in layers] for key, value in lists.items()}
    return changed | {"num_hidden_layers": len(layers)}
