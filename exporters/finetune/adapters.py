"""Adapters to be merged: LoRAs with a weight each, held to the base that they are for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from exporters.errors import Refused
from exporters.finetune.lineage import AdapterLineage, Base, read_adapter_lineage
from exporters.model.lora import Lora
from nsedge.bundle.files import sha256_of


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter's folder; `weight` is how much of it is wanted."""

    folder: Path
    name: str
    weight: float = 1.0

    @cached_property
    def lora(self) -> Lora:
        """Its configuration and tensors."""
        return Lora(self.folder)

    @cached_property
    def sha256(self) -> str:
        """Of the weights."""
        return sha256_of(self.lora.weights)

    @cached_property
    def lineage(self) -> AdapterLineage | None:
        """What it says of its making, where this program made it."""
        return read_adapter_lineage(self.folder)

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


def _differences(own: Base, given: Base) -> Iterator[tuple[str, object, object]]:
    for what, field in (
        ("architecture", "architecture"),
        ("vocabulary (tokens)", "vocabulary"),
        ("vocabulary (SHA-256 of tokenizer.json)", "tokenizer_sha256"),
        ("weights' SHA-256", "weights_sha256"),
    ):
        if getattr(own, field) != getattr(given, field):
            yield what, getattr(own, field), getattr(given, field)
