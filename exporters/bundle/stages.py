"""The stages between a model folder and its graphs, each kept and not made twice."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import msgspec

from exporters.bundle.orders import VariantOrder
from exporters.bundle.reference_stages import AnyReferenceStages
from exporters.cache import Cache, Inputs
from exporters.code import code_digest
from exporters.graph.records import ReferenceRecord, Trial, VariantRecord, native_record
from exporters.measure.runner import Runner, runner_of
from exporters.measure.trial import (
    read_answers,
    read_golden,
    read_trial,
    write_answers,
    write_golden,
    write_trial,
)
from exporters.model.route import Route
from exporters.model.source import Source
from exporters.model.texts import (
    CALIBRATION_FILE,
    FIDELITY_FILE,
    GOLDEN_FILE,
    PROMPTS_FILE,
    prompts_of,
)
from exporters.quantise.schemes import KvFormat
from exporters.trace.route import TRACED
from nsedge import native
from nsedge.bundle.causal_lm import GoldenPrompt
from nsedge.bundle.files import sha256_of

VARIANT_MODULE = "exporters.quantise.variant"
SCALES_MODULE = "exporters.quantise.kv_scales"
TRIAL_MODULE = "exporters.measure.trial"
"""The modules that do the work of the stages, but for the fp32 graph's: its route names that."""


class ReferenceStages(AnyReferenceStages):
    """The fp32 graph of a model folder, and what it says."""

    golden_title = "Recording golden prompts in fp32"
    golden_texts = GOLDEN_FILE
    trial_module = TRIAL_MODULE

    def __init__(
        self, source: Source, cache: Cache, *, max_context: int, route: Route = TRACED
    ) -> None:
        super().__init__(
            source,
            cache,
            max_context=max_context,
            module=route.module,
            libraries=route.libraries,
        )
        self._route = route
        self._max_context = max_context

    def make(self, folder: Path) -> None:
        """Write the fp32 graph. Raises Refused where the model cannot be exported."""
        self._route.make(self.source, folder, self._max_context)

    def make_golden(self, folder: Path) -> None:
        """Write what the fp32 graph says to the golden prompts."""
        write_golden(self.source, self.folder, folder)

    @property
    def record(self) -> ReferenceRecord:
        """What is known of it."""
        return ReferenceRecord.read(self.folder)

    def golden(self) -> tuple[GoldenPrompt, ...]:
        """What the fp32 graph says to the golden prompts."""
        return read_golden(self.golden_folder())

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Those that `answers` go with."""
        return prompts_of(None)

    def answers(self) -> tuple[str, ...]:
        """What the fp32 graph says to our prompts."""

        def make(folder: Path) -> None:
            write_answers(self.source, self.folder, folder, prompts=self.prompts)

        inputs = self.measured(self.inputs, PROMPTS_FILE)
        kept = self.cache.get("answers", inputs, title="Answering in fp32", make=make)
        return read_answers(kept)


class VariantStages:
    """One variant of a model; `Refused` names the variant that the model does not fit."""

    def __init__(self, reference: ReferenceStages, order: VariantOrder) -> None:
        self._reference = reference
        self.cache = reference.cache
        self.order = order
        inputs: dict[str, object] = {
            "reference": self.cache.key(reference.inputs),
            "scheme": order.scheme.name,
            "device": order.device.value,
            "code": code_digest(VARIANT_MODULE),
            "calibration": sha256_of(CALIBRATION_FILE),
        }
        if order.kv is KvFormat.INT8:
            inputs["kv_scales"] = self.cache.key(self._scales_inputs())
        self.inputs: Inputs = inputs

    @cached_property
    def folder(self) -> Path:
        """The directory of the quantised graph; that of the fp32 graph, where that is wanted.

        Raises:
            Refused: the scheme does not fit the model.
        """
        order, reference = self.order, self._reference
        if order.is_reference:
            return reference.folder
        scales = self._scales() if order.kv is KvFormat.INT8 else None

        def make(folder: Path) -> None:
            from exporters.quantise.variant import write_variant  # onnx: only when there is work

            write_variant(
                reference.source,
                reference.folder,
                folder,
                scheme=order.scheme,
                device=order.device,
                scales=scales,
            )

        return self.cache.get("variant", self.inputs, title=f"Making {order.name}", make=make)

    def _scales(self) -> Path:
        """The folder of the int8 cache's scales."""

        def make(folder: Path) -> None:
            from exporters.quantise.kv_scales import write_scales  # onnx: only when there is work

            write_scales(self._reference.source, self._reference.folder, folder)

        title = "Calibrating the int8 cache"
        return self.cache.get("kv-scales", self._scales_inputs(), title=title, make=make)

    def _scales_inputs(self) -> Inputs:
        code = code_digest(SCALES_MODULE)
        text = sha256_of(CALIBRATION_FILE)
        return {"of": self.cache.key(self._reference.inputs), "code": code, "text": text}

    @property
    def record(self) -> ReferenceRecord:
        """That of the fp32 graph, with the variant's own cache and names where it has some."""
        record = self._reference.record
        if self.order.is_reference:
            return record
        own = VariantRecord.read(self.folder)
        return msgspec.structs.replace(record, io=own.io or record.io, kv=own.kv or record.kv)

    def native_lacks(self) -> str | None:
        """Why there is no native form, or none that runs here; None where there is one."""
        if self.order.is_reference:
            return "the reference is left as it is"
        return VariantRecord.read(self.folder).native_lacks or native.why_not()

    def trial(self) -> Trial:
        """How near the variant is to fp32, and what it says."""
        opened = partial(runner_of, self.folder, self.record)
        return self._trial(opened, self._measured(), f"Comparing {self.order.name} with fp32")

    def native_trial(self) -> Trial | None:
        """The same of the native form; None where there is none, or it does not run here."""
        if self.native_lacks() is not None:
            return None
        opened = partial(runner_of, self.folder, native_record(self.record), native_form=True)
        inputs: Inputs = {**self._measured(), "operators": native.source_digest()}
        title = f"Comparing the native form of {self.order.name} with fp32"
        return self._trial(opened, inputs, title)

    def _trial(self, opened: Callable[[], Runner], inputs: Inputs, title: str) -> Trial:
        reference = self._reference

        def make(folder: Path) -> None:
            write_trial(
                reference.source,
                opened(),
                folder,
                reference=reference.folder,
                golden=reference.golden(),
                prompts=reference.prompts,
            )

        return read_trial(self.cache.get("trial", inputs, title=title, make=make))

    def _measured(self) -> Inputs:
        of = self._reference.inputs if self.order.is_reference else self.inputs
        return self._reference.measured(of, FIDELITY_FILE, GOLDEN_FILE, PROMPTS_FILE)
