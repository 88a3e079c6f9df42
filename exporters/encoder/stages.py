"""The stages between an encoder's folder and its graphs, each kept and not made twice."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from exporters.bundle.orders import VariantOrder
from exporters.bundle.reference_stages import AnyReferenceStages
from exporters.cache import Cache, Inputs
from exporters.code import code_digest
from exporters.encoder.outputs import Output, output_of
from exporters.encoder.records import EncoderRecord
from exporters.encoder.texts import GOLDEN_FILE, tokenizer_of
from exporters.encoder.trial import (
    EncoderTrial,
    read_golden,
    read_trial,
    write_golden,
    write_trial,
)
from exporters.model.source import Source
from exporters.model.texts import CALIBRATION_FILE, FIDELITY_FILE
from nsedge.bundle.files import sha256_of

LIBRARIES = ("torch", "transformers", "onnx", "onnxruntime-gpu", "tokenizers")
REFERENCE_MODULE = "exporters.encoder.reference"
VARIANT_MODULE = "exporters.encoder.variant"
TRIAL_MODULE = "exporters.encoder.trial"
"""The modules that do the work of the stages."""


class ReferenceStages(AnyReferenceStages):
    """The fp32 graph of an encoder's folder, and what it makes of the golden texts."""

    golden_title = "Recording golden samples in fp32"
    golden_texts = GOLDEN_FILE
    trial_module = TRIAL_MODULE

    def __init__(self, source: Source, cache: Cache, *, max_context: int | None) -> None:
        super().__init__(
            source,
            cache,
            max_context=max_context,
            module=REFERENCE_MODULE,
            libraries=LIBRARIES,
        )
        self._max_context = max_context

    def make(self, folder: Path) -> None:
        """Write the fp32 graph. Raises Refused where the model cannot be exported."""
        from exporters.encoder.reference import make_reference  # torch: only where it is made

        make_reference(self.source, folder, max_context=self._max_context)

    def make_golden(self, folder: Path) -> None:
        """Write what the fp32 graph makes of the golden texts."""
        write_golden(self.source, self.folder, folder)

    @property
    def record(self) -> EncoderRecord:
        """What is known of it."""
        return EncoderRecord.read(self.folder)

    @cached_property
    def output(self) -> Output:
        """What it gives."""
        record = self.record
        return output_of(record, tokenizer_of(self.source, vocab_size=record.vocab_size))

    def golden(self) -> bytes:
        """What the fp32 graph makes of the golden texts, as a bundle has it."""
        return read_golden(self.golden_folder())


class VariantStages:
    """One variant of an encoder."""

    def __init__(self, reference: ReferenceStages, order: VariantOrder) -> None:
        self.reference = reference
        self.order = order
        self.inputs: Inputs = {
            "reference": reference.cache.key(reference.inputs),
            "scheme": order.scheme.name,
            "calibration": sha256_of(CALIBRATION_FILE),
            "code": code_digest(VARIANT_MODULE),
        }

    @cached_property
    def folder(self) -> Path:
        """The directory of the quantised graph; that of the fp32 graph, where that is wanted.

        Raises:
            Refused: the scheme does not fit the model.
        """
        order, reference = self.order, self.reference
        if order.is_reference:
            return reference.folder

        def make(folder: Path) -> None:
            from exporters.encoder.variant import write_variant  # onnx: only when there is work

            write_variant(reference.source, reference.folder, folder, scheme=order.scheme)

        title = f"Making {order.name}"
        return reference.cache.get("variant", self.inputs, title=title, make=make)

    def trial(self) -> EncoderTrial[Any]:
        """How near the variant is to fp32."""
        reference = self.reference

        def make(folder: Path) -> None:
            write_trial(
                reference.source,
                self.folder,
                folder,
                reference=reference.folder,
                golden=reference.golden(),
            )

        of = reference.inputs if self.order.is_reference else self.inputs
        inputs = reference.measured(of, FIDELITY_FILE, GOLDEN_FILE)
        title = f"Comparing {self.order.name} with fp32"
        kept = reference.cache.get("trial", inputs, title=title, make=make)
        return read_trial(kept, reference.output)
