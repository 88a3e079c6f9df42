"""From the folder of a model that sees to graphs, their figures, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

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
from exporters.graph.records import NATIVE_SUFFIX, native_record
from exporters.measure.runner import Runner, runner_of
from exporters.measure.thresholds import Measure, Overrides, check_overrides, form_names
from exporters.model.vision_lm import VisionSource
from exporters.quantise.schemes import Device, KvFormat, Method
from exporters.vision_lm.modes import Decoder, mode_adapters
from exporters.vision_lm.records import FILTERS_FILE, ImageRecord, ImageTrial, SoundRecord
from exporters.vision_lm.stages import DECODER, EncoderStages, ImageStages, SoundStages
from exporters.vision_lm.variant import scheme_of
from nsedge.bundle.causal_lm import CausalLm, Fidelity
from nsedge.bundle.encoder import VectorFidelity
from nsedge.bundle.fields import Variants
from nsedge.bundle.hearing import Hearing, SoundEncoder
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.mode_adapters import ModeAdapters
from nsedge.bundle.vision_lm import ImageEncoder, PicturePrompt, VisionLm

PICTURES_FILE = "golden_pictures.json"
SOUNDS_FILE = "golden_sounds.json"
EYES, EARS = "eyes-of", "ears-of"
"""What the cache calls the links from bundles to fp32 encoders."""
PICTURES, SOUNDS = "pictures", "sounds"
"""What an encoder is of."""


class Told(TypedDict):
    """What a manifest says of an encoder, but for its inputs and outputs."""

    name: str
    device: str
    scheme: str
    graph: str
    fidelity: VectorFidelity
    seen: dict[str, Fidelity]


Made = dict[str, tuple[Told, ImageTrial]]
"""An encoder by variant."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """How near the encoders are to fp32, by variant: of pictures, and of sound where it hears."""

    pictures: dict[str, ImageTrial]
    sounds: dict[str, ImageTrial]


@dataclass(frozen=True, kw_only=True)
class VisionReport:
    """What came of a bundle's making: of the decoder, and of the encoders by variant."""

    text: Report
    record: ImageRecord
    sound: SoundRecord | None
    trials: Trials


@dataclass(frozen=True, kw_only=True)
class VisionExport:
    """One order: the stages of its decoder, and of its encoders."""

    source: VisionSource
    text: Export
    image: ImageStages
    sound: SoundStages | None
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
            if source.together:
                _check_together(variant)
        text = Export(order, cache)
        source.steps()
        source.adapters()
        prompt, sound = source.prompt(), source.sound_prompt()
        return cls(
            source=source,
            text=text,
            image=ImageStages(source, cache, token_id=prompt.token_id),
            sound=None if sound is None else SoundStages(source, cache, token_id=sound.token_id),
            prompt=prompt,
        )

    def product(self, overrides: Overrides) -> tuple[Product, Trials]:
        """Every graph and all that is said of it; how near the encoders are, by variant.

        Raises:
            Refused: the model cannot be exported, or not in one of the variants, which is named.
            ExportError: something else failed.
        """
        product = self.text.product(overrides)
        product = replace(product, exported=without_far_forms(product.exported, overrides))
        made = {stages.order.name: stages for stages in self.text.stages}
        kept = [
            (made[variant.name], variant.native is not None)
            for variant in product.exported.variants
        ]
        image, contents = self._encoders(self.image, kept)
        contents[PICTURES_FILE] = _golden(self.image)
        sound: Made = {}
        if self.sound is not None:
            sound, more = self._encoders(self.sound, kept)
            filters = self.sound.folder / FILTERS_FILE
            contents |= {**more, SOUNDS_FILE: _golden(self.sound), FILTERS_FILE: filters}
        modes, folders = None, self.source.adapters()
        if folders:
            modes, more = mode_adapters(folders, [decoder_of(*one) for one in kept])
            contents |= more
        addition = Addition(
            contents=contents, complete=lambda text: self._manifest(text, image, sound, modes)
        )
        trials = Trials(
            pictures={name: trial for name, (_, trial) in image.items()},
            sounds={name: trial for name, (_, trial) in sound.items()},
        )
        return replace(product, addition=addition), trials

    def _encoders(
        self, encoder: EncoderStages, kept: Sequence[tuple[VariantStages, bool]]
    ) -> tuple[Made, Contents]:
        """An encoder beside each decoder, of which it is told whether it has a native form; and its
        files."""
        made: Made = {}
        contents: Contents = {}
        for stages, has_native in kept:
            name = stages.order.name
            trial = self._trial(encoder, stages, has_native=has_native)
            told: Told = {
                "name": name,
                "device": stages.order.device.value,
                "scheme": self.scheme(name),
                "graph": f"{name}/{encoder.file}",
                "fidelity": trial.fidelity,
                "seen": trial.seen,
            }
            made[name] = told, trial
            files = encoder.files(stages.order)
            contents |= {f"{name}/{file}": path for file, path in files.items()}
        return made, contents

    def scheme(self, variant: str) -> str:
        """The scheme of the encoder beside a variant of the decoder."""
        order = next(each.order for each in self.text.stages if each.order.name == variant)
        return scheme_of(order.scheme).name

    def _trial(
        self, encoder: EncoderStages, stages: VariantStages, *, has_native: bool
    ) -> ImageTrial:
        """How near the encoder of a variant is to fp32, by itself and with its decoders."""
        name = stages.order.name

        def decoders() -> dict[str, Runner]:
            opened = {name: runner_of(stages.folder, stages.record)}
            if has_native:
                record = native_record(stages.record)
                opened[name + NATIVE_SUFFIX] = runner_of(stages.folder, record, native_form=True)
            return opened

        return encoder.trial(
            stages.order,
            exact=lambda: runner_of(self.text.reference.folder),
            decoders=decoders,
            of={**stages.inputs, "native": has_native},
        )

    def _manifest(
        self, text: CausalLm, image: Made, sound: Made, modes: ModeAdapters | None
    ) -> VisionLm:
        record, hearing, hears = self.image.record, None, self.source.sound_prompt()
        if self.sound is not None and hears is not None:
            io, features = self.sound.record.io, self.sound.record.told
            variants = tuple(SoundEncoder(**told, io=io) for told, _ in sound.values())
            hearing = Hearing(encoder=Variants(variants=variants), features=features, prompt=hears)
        return VisionLm.of(
            text,
            image=tuple(ImageEncoder(**told, io=record.io) for told, _ in image.values()),
            pictures=record.pictures,
            prompt=self.prompt,
            golden=PICTURES_FILE,
            hidden_size=record.hidden,
            hearing=hearing,
            golden_sounds=None if hearing is None else SOUNDS_FILE,
            adapters=modes,
        )


def decoder_of(stages: VariantStages, has_native: bool) -> Decoder:
    """A decoder that was made, for adapters."""
    return Decoder(
        name=stages.order.name,
        folder=stages.folder,
        io=stages.record.io,
        kv=stages.record.kv,
        has_native=has_native,
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
    checks = [
        image_check(each, export.scheme(each), trial, of=of)
        for of, found in ((PICTURES, trials.pictures), (SOUNDS, trials.sounds))
        for each, trial in found.items()
    ]
    refuse_failures([(check.variant, why) for check in checks for why in check.failures])
    text = pack(product, out, name=name, cache=cache, overrides=limits, replace=replace)
    digest = variant_digest(Bundle.open(out))
    cache.link(EYES, digest, export.image.folder)
    if export.sound is not None:
        cache.link(EARS, digest, export.sound.folder)
    return VisionReport(
        text=text,
        record=export.image.record,
        sound=None if export.sound is None else export.sound.record,
        trials=trials,
    )


def image_check(name: str, scheme: str, trial: ImageTrial, *, of: str = PICTURES) -> EncoderCheck:
    """What was found of the encoder of a variant, beside its limits; `of` what it is."""
    return EncoderCheck(
        variant=f"{name} ({of})",
        limits=vectors_promised(scheme),
        golden_measure=Measure.GOLDEN_COSINE,
        golden=trial.golden,
        recorded=trial.fidelity,
    )


def _golden(encoder: EncoderStages) -> bytes:
    return msgspec.json.format(msgspec.json.encode(encoder.golden()), indent=1) + b"\n"


def _check_together(order: VariantOrder) -> None:
    """Refuse variants whose graphs have no form of attention in both directions.

    Raises:
        Refused: with the reason.
    """
    if order.kv is not KvFormat.FLOAT32 or order.scheme.method is Method.ROTATED:
        raise Refused(
            f"variant {order.name}: the tokens of a picture see each other, which has no form in a"
            " cache of int8, or between rotated layers"
        )
