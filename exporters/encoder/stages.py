"""The stages between an encoder's folder and its graphs, each kept and not made twice."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from exporters.bundle.orders import VariantOrder
from exporters.cache import Cache, Inputs, folder_digest
from exporters.code import code_digest
from exporters.encoder.records import EncoderRecord
from exporters.encoder.texts import GOLDEN_FILE
from exporters.encoder.trial import (
    VectorTrial,
    read_golden,
    read_trial,
    write_golden,
    write_trial,
)
from exporters.model.route import library_versions
from exporters.model.source import Source
from exporters.model.texts import CALIBRATION_FILE, FIDELITY_FILE
from nsedge.bundle.encoder import GoldenVector
from nsedge.bundle.files import sha256_of

LIBRARIES = ("torch", "transformers", "onnx", "onnxruntime-gpu", "tokenizers")
REFERENCE_MODULE = "exporters.encoder.reference"
VARIANT_MODULE = "exporters.encoder.variant"
TRIAL_MODULE = "exporters.encoder.trial"
"""The modules that do the work of the stages."""


class ReferenceStages:
    """The fp32 graph of an encoder's folder, and what it makes of the golden texts."""

    def __init__(self, source: Source, cache: Cache, *, max_context: int | None) -> None:
        self.source = source
        self.cache = cache
        self._max_context = max_context
        self.inputs: Inputs = {
            "folder": folder_digest(source.folder),
            "tokenizer": sha256_of(source.tokenizer_file),
            "max_context": max_context,
            "code": code_digest(REFERENCE_MODULE),
            "libraries": library_versions(LIBRARIES),
        }

    @cached_property
    def folder(self) -> Path:
        """The directory of the fp32 graph.

        Raises:
            Refused: the model cannot be exported.
        """

        def make(folder: Path) -> None:
            from exporters.encoder.reference import make_reference  # torch: only where it is made

            make_reference(self.source, folder, max_context=self._max_context)

        title = f"Exporting {self.source.origin} to ONNX in fp32"
        return self.cache.get("reference", self.inputs, title=title, make=make)

    @property
    def record(self) -> EncoderRecord:
        """What is known of it."""
        return EncoderRecord.read(self.folder)

    def golden(self) -> tuple[GoldenVector, ...]:
        """What the fp32 graph makes of the golden texts."""

        def make(folder: Path) -> None:
            write_golden(self.source, self.folder, folder)

        inputs = self.measured(self.inputs, GOLDEN_FILE)
        title = "Recording golden vectors in fp32"
        return read_golden(self.cache.get("golden", inputs, title=title, make=make))

    def measured(self, of: Inputs, *texts: Path) -> Inputs:
        """What decides figures of the graph that `of` decides, over these texts."""
        hashes = [sha256_of(text) for text in texts]
        return {"of": self.cache.key(of), "code": code_digest(TRIAL_MODULE), "text": hashes}


class VariantStages:
    """One variant of an encoder."""

    def __init__(self, reference: ReferenceStages, order: VariantOrder) -> None:
        self._reference = reference
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
        order, reference = self.order, self._reference
        if order.is_reference:
            return reference.folder

        def make(folder: Path) -> None:
            from exporters.encoder.variant import write_variant  # onnx: only when there is work

            write_variant(reference.source, reference.folder, folder, scheme=order.scheme)

        title = f"Making {order.name}"
        return reference.cache.get("variant", self.inputs, title=title, make=make)

    def trial(self) -> VectorTrial:
        """How near the variant is to fp32."""
        reference = self._reference

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
        return read_trial(reference.cache.get("trial", inputs, title=title, make=make))
