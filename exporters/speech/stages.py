"""The stages between a speech model's folder and its graphs, each kept and not made twice."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from exporters.bundle.orders import VariantOrder
from exporters.cache import Cache, Inputs, folder_digest
from exporters.code import code_digest
from exporters.model.route import library_versions
from exporters.model.source import Source
from exporters.speech.records import SpeechRecord, SpeechTrial
from exporters.speech.sounds import calibration_clips, golden_clips
from exporters.speech.trial import read_golden, read_trial, write_golden, write_trial
from nsedge import native
from nsedge.bundle.files import sha256_of
from nsedge.bundle.speech import GoldenSpeech

LIBRARIES = ("torch", "transformers", "onnx", "onnxruntime-gpu", "tokenizers")
REFERENCE_MODULE = "exporters.speech.reference"
VARIANT_MODULE = "exporters.speech.variant"
TRIAL_MODULE = "exporters.speech.trial"
"""The modules that do the work of the stages."""


class ReferenceStages:
    """The fp32 graphs of a folder, and what they write of the golden recordings."""

    def __init__(self, source: Source, cache: Cache) -> None:
        self.source = source
        self.cache = cache
        self.inputs: Inputs = {
            "folder": folder_digest(source.folder),
            "tokenizer": sha256_of(source.tokenizer_file),
            "code": code_digest(REFERENCE_MODULE),
            "libraries": library_versions(LIBRARIES),
        }

    @cached_property
    def folder(self) -> Path:
        """The directory of the fp32 graphs.

        Raises:
            Refused: the model cannot be exported.
        """

        def make(folder: Path) -> None:
            from exporters.speech.reference import make_reference  # torch: only where it is made

            make_reference(self.source, folder)

        title = f"Exporting {self.source.origin} to ONNX in fp32"
        return self.cache.get("reference", self.inputs, title=title, make=make)

    @property
    def record(self) -> SpeechRecord:
        """What is known of them."""
        return SpeechRecord.read(self.folder)

    @cached_property
    def golden_folder(self) -> Path:
        """The directory of the golden recordings, and of what fp32 writes of them."""

        def make(folder: Path) -> None:
            write_golden(self.source, self.folder, folder)

        title = "Writing golden recordings in fp32"
        return self.cache.get("golden", self.measured(self.inputs), title=title, make=make)

    def golden(self) -> tuple[GoldenSpeech, ...]:
        """What they say of the golden recordings."""
        return read_golden(self.golden_folder)

    def measured(self, of: Inputs) -> Inputs:
        """What decides figures of the graphs that `of` decides."""
        clips = [sha256_of(clip) for clip in golden_clips()]
        return {"of": self.cache.key(of), "code": code_digest(TRIAL_MODULE), "clips": clips}


class VariantStages:
    """One variant of a speech model."""

    def __init__(self, reference: ReferenceStages, order: VariantOrder) -> None:
        self._reference = reference
        self.order = order
        self.inputs: Inputs = {
            "reference": reference.cache.key(reference.inputs),
            "scheme": order.scheme.name,
            "calibration": [sha256_of(clip) for clip in calibration_clips()],
            "code": code_digest(VARIANT_MODULE),
        }

    @cached_property
    def folder(self) -> Path:
        """The directory of the quantised graphs; that of the fp32 graphs, where these are wanted.

        Raises:
            Refused: the scheme does not fit the model.
        """
        order, reference = self.order, self._reference
        if order.is_reference:
            return reference.folder

        def make(folder: Path) -> None:
            from exporters.speech.variant import write_variant  # onnx: only when there is work

            write_variant(reference.source, reference.folder, folder, scheme=order.scheme)

        title = f"Making {order.name}"
        return reference.cache.get("variant", self.inputs, title=title, make=make)

    @property
    def has_native(self) -> bool:
        """Whether there is a form on the daemon's own operators, which runs here."""
        return not self.order.is_reference and native.why_not() is None

    def trial(self, *, native_form: bool) -> SpeechTrial:
        """How near a form of the variant is to fp32."""
        reference = self._reference

        def make(folder: Path) -> None:
            write_trial(
                reference.source,
                self.folder,
                folder,
                reference=reference.folder,
                golden=reference.golden_folder,
                scheme=self.order.scheme.name,
                native=native_form,
            )

        of = reference.inputs if self.order.is_reference else self.inputs
        inputs: dict[str, object] = dict(reference.measured(of))
        if native_form:
            inputs["operators"] = native.source_digest()
        title = f"Comparing {self.order.name} with fp32"
        return read_trial(reference.cache.get("trial", inputs, title=title, make=make))
