"""The stages between a speech model's folder and its graphs, each kept and not made twice."""

from __future__ import annotations

from pathlib import Path

from exporters.bundle.orders import VariantOrder
from exporters.cache import Cache
from exporters.conditioned.records import ConditionedRecord
from exporters.conditioned.stages import ConditionedStages, VariantStages
from exporters.model.source import Source
from exporters.model.speech import SpeechShape
from exporters.speech.records import SpeechTrial, forms
from exporters.speech.sounds import calibration_clips, golden_clips
from exporters.speech.trial import read_golden, read_trial, write_golden, write_trial
from nsedge.bundle.speech import GoldenSpeech, ListenerVariant, SpeechVariant

REFERENCE_MODULE = "exporters.speech.reference"
VARIANT_MODULE = "exporters.speech.variant"
TRIAL_MODULE = "exporters.speech.trial"
"""The modules that do the work of the stages."""


class SpeechStages(ConditionedStages):
    """The fp32 graphs of a folder, and what they write of the golden recordings."""

    golden_title = "Writing golden recordings in fp32"
    trial_module = TRIAL_MODULE

    def __init__(self, source: Source, cache: Cache) -> None:
        super().__init__(source, cache, module=REFERENCE_MODULE, samples=golden_clips())

    def make(self, folder: Path) -> None:
        """Write the fp32 graphs. Raises Refused where the model cannot be exported."""
        from exporters.speech.reference import make_reference  # torch: only where it is made

        make_reference(self.source, folder)

    def make_golden(self, folder: Path) -> None:
        """Write the golden recordings, and what the fp32 graphs write of them."""
        write_golden(self.source, self.folder, folder)

    @property
    def record(self) -> ConditionedRecord:
        """What is known of the fp32 graphs."""
        return ConditionedRecord.read(self.folder)

    def golden(self) -> tuple[GoldenSpeech, ...]:
        """What they say of the golden recordings."""
        return read_golden(self.golden_folder())


class SpeechVariantStages(VariantStages):
    """One variant of a speech model."""

    def __init__(self, reference: SpeechStages, order: VariantOrder, shape: SpeechShape) -> None:
        super().__init__(reference, order, module=VARIANT_MODULE, calibration=calibration_clips())
        self._shape = shape

    def make(self, folder: Path) -> None:
        """Write the quantised graphs. Raises Refused where the scheme does not fit the model."""
        from exporters.speech.variant import write_variant  # onnx: only when there is work

        reference = self.reference
        write_variant(reference.source, reference.folder, folder, scheme=self.order.scheme)

    def measure(self, folder: Path, *, native_form: bool) -> None:
        """Write how near a form of the graphs is to fp32."""
        reference = self.reference
        write_trial(
            reference.source,
            self.folder,
            folder,
            reference=reference.folder,
            golden=reference.golden_folder(),
            scheme=self.order.scheme.name,
            native=native_form,
        )

    def read_trial(self, folder: Path) -> SpeechTrial:
        """What `measure` wrote."""
        return read_trial(folder)

    def variants(self, *, native_form: bool) -> tuple[ListenerVariant, SpeechVariant]:
        """How a form of the graphs is run in a bundle."""
        order = self.order
        scheme = order.scheme.name
        return forms(order.name, scheme, self._shape, native=native_form, inside=order.name)
