"""The stages between a dual encoder's folder and its graphs, each kept and not made twice."""

from __future__ import annotations

from pathlib import Path

from exporters.bundle.orders import VariantOrder
from exporters.bundle.reference_stages import AnyReferenceStages
from exporters.cache import Cache, Inputs
from exporters.code import code_digest
from exporters.dual_encoder.records import DualRecord, Golden, TowerTrial
from exporters.dual_encoder.trial import read_golden, read_trial, write_golden, write_trial
from exporters.encoder.stages import LIBRARIES
from exporters.encoder.texts import GOLDEN_FILE
from exporters.model.source import Source
from exporters.model.texts import FIDELITY_FILE

REFERENCE_MODULE = "exporters.dual_encoder.reference"
VARIANT_MODULE = "exporters.dual_encoder.variant"
TRIAL_MODULE = "exporters.dual_encoder.trial"
"""The modules that do the work of the stages."""


class DualStages(AnyReferenceStages):
    """The fp32 graphs of a folder, what they make of golden samples, and graphs by scheme."""

    golden_title = "Recording golden vectors in fp32"
    golden_texts = GOLDEN_FILE
    trial_module = TRIAL_MODULE

    def __init__(self, source: Source, cache: Cache, *, max_context: int | None) -> None:
        super().__init__(
            source, cache, max_context=max_context, module=REFERENCE_MODULE, libraries=LIBRARIES
        )
        self._max_context = max_context

    def make(self, folder: Path) -> None:
        """Write the fp32 graphs. Raises Refused where the model cannot be exported."""
        from exporters.dual_encoder.reference import make_reference  # torch: only where made

        make_reference(self.source, folder, max_context=self._max_context)

    def make_golden(self, folder: Path) -> None:
        """Write what the fp32 graphs make of the golden samples."""
        write_golden(self.source, self.folder, folder)

    @property
    def record(self) -> DualRecord:
        """What is known of the fp32 graphs."""
        return DualRecord.read(self.folder)

    def golden(self) -> Golden:
        """What they make of the golden samples."""
        return read_golden(self.golden_folder())

    def variant(self, order: VariantOrder) -> Path:
        """The directory of the graphs in the form that `order` wants.

        Raises:
            Refused: the scheme does not fit the model.
        """
        if order.is_reference:
            return self.folder

        def make(folder: Path) -> None:
            from exporters.dual_encoder.variant import write_variant  # onnx: only where made

            write_variant(self.folder, folder, scheme=order.scheme)

        inputs = self._of_variant(order)
        return self.cache.get("variant", inputs, title=f"Making {order.name}", make=make)

    def trial(self, order: VariantOrder) -> TowerTrial:
        """How near the graphs of `order` are to fp32."""

        def make(folder: Path) -> None:
            write_trial(
                self.source,
                self.variant(order),
                folder,
                reference=self.folder,
                golden=self.golden(),
            )

        of = self.inputs if order.is_reference else self._of_variant(order)
        inputs = self.measured(of, FIDELITY_FILE, GOLDEN_FILE)
        title = f"Comparing {order.name} with fp32"
        return read_trial(self.cache.get("trial", inputs, title=title, make=make))

    def _of_variant(self, order: VariantOrder) -> Inputs:
        return {
            "reference": self.cache.key(self.inputs),
            "scheme": order.scheme.name,
            "code": code_digest(VARIANT_MODULE),
        }
