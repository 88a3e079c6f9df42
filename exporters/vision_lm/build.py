"""From the folder of a model that sees to graphs, their figures, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from exporters.bundle.build import Export, Report, pack
from exporters.bundle.choosing import refuse_failures
from exporters.bundle.forms import without_far_forms
from exporters.bundle.orders import Order, VariantOrder
from exporters.bundle.package import (
    Addition,
    Contents,
    Product,
    check_place,
    variant_digest,
)
from exporters.bundle.stages import VariantStages
from exporters.cache import Cache
from exporters.encoder.outputs import vectors_promised
from exporters.encoder.verdict import EncoderCheck
from exporters.errors import Refused
from exporters.graph.records import DATA_SUFFIX, NATIVE_SUFFIX, native_record
from exporters.measure.runner import Runner, runner_of
from exporters.measure.thresholds import Measure, Overrides, check_overrides, form_names
from exporters.model.vision_lm import VisionSource
from exporters.quantise.schemes import Device
from exporters.vision_lm.records import IMAGE_FILE, ImageRecord, ImageTrial
from exporters.vision_lm.stages import DECODER, EncoderStages
from exporters.vision_lm.variant import scheme_of
from nsedge.bundle.causal_lm import CausalLm
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import ImageEncoder, PicturePrompt, VisionLm

PICTURES_FILE = "golden_pictures.json"
EYES = "eyes-of"
"""What the cache calls the links from bundles to fp32 encoders."""


@dataclass(frozen=True, kw_only=True)
class VisionReport:
    """What came of a bundle's making: of the decoder, and of the encoder by variant."""

    text: Report
    record: ImageRecord
    trials: dict[str, ImageTrial]


@dataclass(frozen=True, kw_only=True)
class VisionExport:
    """One order: the stages of its decoder, and of its encoder."""

    source: VisionSource
    text: Export
    image: EncoderStages
    prompt: PicturePrompt

    @classmethod
    def of(
        cls, source: VisionSource, variants: tuple[VariantOrder, ...], context: int, cache: Cache
    ) -> VisionExport:
        """Of a folder, up to a longest context.

        Raises:
            Refused: what cannot be exported, before any work.
        """
        order = Order(source=source, variants=variants, max_context=context, route=DECODER)
        for variant in variants:
            if variant.device is not Device.CPU:
                raise Refused(f"variant {variant.name}: encoders of pictures run on the CPU so far")
        text = Export(order, cache)
        source.steps()
        return cls(
            source=source,
            text=text,
            image=EncoderStages(source, cache),
            prompt=source.prompt(),
        )

    def product(self, overrides: Overrides) -> tuple[Product, dict[str, ImageTrial]]:
        """Every graph and all that is said of it; how near the encoders are, by variant.

        Raises:
            Refused: the model cannot be exported, or not in one of the variants, which is named.
            ExportError: something else failed.
        """
        product = self.text.product(overrides)
        product = replace(product, exported=without_far_forms(product.exported, overrides))
        made = {stages.order.name: stages for stages in self.text.stages}
        trials: dict[str, ImageTrial] = {}
        encoders: list[ImageEncoder] = []
        contents: Contents = {}
        for variant in product.exported.variants:
            stages = made[variant.name]
            folder = self.image.variant(stages.order)
            trial = self._trial(stages, has_native=variant.native is not None)
            trials[variant.name] = trial
            contents |= _files(variant.name, folder)
            encoders.append(
                ImageEncoder(
                    name=variant.name,
                    device=variant.device,
                    scheme=self.scheme(variant.name),
                    graph=f"{variant.name}/{IMAGE_FILE}",
                    io=self.image.record.io,
                    fidelity=trial.fidelity,
                    seen=trial.seen,
                )
            )
        golden = msgspec.json.format(msgspec.json.encode(self.image.golden()), indent=1) + b"\n"
        addition = Addition(
            contents={**contents, PICTURES_FILE: golden},
            complete=lambda text: self._manifest(text, tuple(encoders)),
        )
        return replace(product, addition=addition), trials

    def scheme(self, variant: str) -> str:
        """The scheme of the encoder beside a variant of the decoder."""
        order = next(each.order for each in self.text.stages if each.order.name == variant)
        return scheme_of(order.scheme).name

    def _trial(self, stages: VariantStages, *, has_native: bool) -> ImageTrial:
        """How near the encoder of a variant is to fp32, by itself and with its decoders."""
        name = stages.order.name

        def decoders() -> dict[str, Runner]:
            opened = {name: runner_of(stages.folder, stages.record)}
            if has_native:
                record = native_record(stages.record)
                opened[name + NATIVE_SUFFIX] = runner_of(stages.folder, record, native_form=True)
            return opened

        return self.image.trial(
            stages.order,
            exact=lambda: runner_of(self.text.reference.folder),
            decoders=decoders,
            of={**stages.inputs, "native": has_native},
        )

    def _manifest(self, text: CausalLm, encoders: tuple[ImageEncoder, ...]) -> VisionLm:
        record = self.image.record
        return VisionLm.of(
            text,
            image=encoders,
            pictures=record.pictures,
            prompt=self.prompt,
            golden=PICTURES_FILE,
            hidden_size=record.hidden,
        )


def export_vision_lm(
    source: VisionSource,
    out: Path,
    *,
    variants: tuple[VariantOrder, ...],
    context: int,
    name: str,
    cache: Cache,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> VisionReport:
    """Make the bundle `name` at `out`.

    A bundle of the same source is brought up to date; anything else there needs `replace`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: something else failed, `out` is taken, or a variant is too far from fp32.
    """
    limits = overrides or {}
    export = VisionExport.of(source, variants, context, cache)
    check_overrides(limits, form_names(variant.name for variant in variants))
    check_place(out, name, source.origin, replace=replace)
    product, trials = export.product(limits)
    checks = [image_check(each, export.scheme(each), trial) for each, trial in trials.items()]
    refuse_failures([(check.variant, why) for check in checks for why in check.failures])
    text = pack(product, out, name=name, cache=cache, overrides=limits, replace=replace)
    cache.link(EYES, variant_digest(Bundle.open(out)), export.image.folder)
    return VisionReport(text=text, record=export.image.record, trials=trials)


def image_check(name: str, scheme: str, trial: ImageTrial) -> EncoderCheck:
    """What was found of the encoder of a variant, beside its limits."""
    return EncoderCheck(
        variant=f"{name} (pictures)",
        limits=vectors_promised(scheme),
        golden_measure=Measure.GOLDEN_COSINE,
        golden=trial.golden,
        recorded=trial.fidelity,
    )


def _files(variant: str, folder: Path) -> Contents:
    names = (IMAGE_FILE, f"{IMAGE_FILE}{DATA_SUFFIX}")
    return {f"{variant}/{name}": folder / name for name in names}
