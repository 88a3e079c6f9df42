"""The stages between a captioner's folder and its graphs, each kept and not made twice."""

from __future__ import annotations

from pathlib import Path

from exporters.bundle.orders import VariantOrder
from exporters.cache import Cache
from exporters.caption.records import CaptionTrial, forms
from exporters.caption.trial import read_golden, read_trial, write_golden, write_trial
from exporters.conditioned.records import ConditionedRecord
from exporters.conditioned.stages import ConditionedStages, VariantStages
from exporters.model.caption import CaptionShape
from exporters.model.source import Source
from nsedge.bundle.caption import CaptionVariant, GoldenCaption, LookerVariant

REFERENCE_MODULE = "exporters.caption.reference"
VARIANT_MODULE = "exporters.caption.variant"
TRIAL_MODULE = "exporters.caption.trial"
"""The modules that do the work of the stages."""


class CaptionStages(ConditionedStages):
    """The fp32 graphs of a folder, and what they write of the golden patterns."""

    golden_title = "Writing golden captions in fp32"
    trial_module = TRIAL_MODULE

    def __init__(self, source: Source, cache: Cache) -> None:
        super().__init__(source, cache, module=REFERENCE_MODULE)

    def make(self, folder: Path) -> None:
        """Write the fp32 graphs. Raises Refused where the model cannot be exported."""
        from exporters.caption.reference import make_reference  # torch: only where it is made

        make_reference(self.source, folder)

    def make_golden(self, folder: Path) -> None:
        """Write what the fp32 graphs write of the golden patterns."""
        write_golden(self.source, self.folder, folder)

    @property
    def record(self) -> ConditionedRecord:
        """What is known of the fp32 graphs."""
        return ConditionedRecord.read(self.folder)

    def golden(self) -> tuple[GoldenCaption, ...]:
        """What they say of the golden patterns."""
        return read_golden(self.golden_folder())


class CaptionVariantStages(VariantStages):
    """One variant of a captioner."""

    def __init__(self, reference: CaptionStages, order: VariantOrder, shape: CaptionShape) -> None:
        super().__init__(reference, order, module=VARIANT_MODULE)
        self._golden = reference.golden
        self._shape = shape

    def make(self, folder: Path) -> None:
        """Write the quantised graphs. Raises Refused where the scheme does not fit the model."""
        from exporters.caption.variant import write_variant  # onnx: only when there is work

        write_variant(self.reference.folder, folder, scheme=self.order.scheme)

    def measure(self, folder: Path, *, native_form: bool) -> None:
        """Write how near a form of the graphs is to fp32."""
        write_trial(
            self.reference.source,
            self.folder,
            folder,
            reference=self.reference.folder,
            golden=self._golden(),
            scheme=self.order.scheme.name,
            native=native_form,
        )

    def read_trial(self, folder: Path) -> CaptionTrial:
        """What `measure` wrote."""
        return read_trial(folder)

    def variants(self, *, native_form: bool) -> tuple[LookerVariant, CaptionVariant]:
        """How a form of the graphs is run in a bundle."""
        name, scheme = self.order.name, self.order.scheme.name
        return forms(name, scheme, self._shape.decoder, native=native_form, inside=name)
