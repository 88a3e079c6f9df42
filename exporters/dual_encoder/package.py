"""The bundle of a dual encoder, of what its stages made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from exporters.bundle.choosing import refuse_failures
from exporters.bundle.package import (
    GOLDEN_FILE,
    TOKENIZER_FILE,
    Contents,
    entries,
    provenance,
    write_bundle,
)
from exporters.dual_encoder.records import (
    IMAGE_FILE,
    TEXT_FILE,
    DualRecord,
    Golden,
    TowerTrial,
)
from exporters.encoder.outputs import vectors_promised
from exporters.encoder.verdict import EncoderCheck, EncoderVerdict, verdict_page
from exporters.graph.records import DATA_SUFFIX
from exporters.measure.build_report import REPORT_FILE, REPORT_PAGE
from exporters.measure.findings import verdict_json
from exporters.measure.thresholds import Measure, Overrides, asked_for
from exporters.model.source import LICENCE_FILE, Source
from nsedge.bundle.dual_encoder import (
    GOLDEN_PICTURES,
    DualEncoder,
    DualEncoderComponents,
    DualEncoderProcessors,
    ImageTower,
    TextTower,
)
from nsedge.bundle.fields import FORMAT, FORMAT_VERSION, Tokenizer, Variants

PICTURES_FILE = "golden_pictures.json"


@dataclass(frozen=True, kw_only=True)
class MadeTowers:
    """The graphs of one variant, in `folder`, and how near they are to fp32."""

    name: str
    device: str
    scheme: str
    folder: Path
    trial: TowerTrial


@dataclass(frozen=True, kw_only=True)
class DualProduct:
    """What an export made."""

    source: Source
    parameters: int
    record: DualRecord
    golden: Golden
    libraries: dict[str, str]
    towers: tuple[MadeTowers, ...]


def package(
    product: DualProduct, out: Path, *, name: str, overrides: Overrides, replace: bool
) -> tuple[bool, EncoderVerdict]:
    """Write the bundle `name`; whether it was not there already, and how its variants are.

    Raises:
        ExportError: a variant is farther from fp32 than it may be, or something else is at `out`
            and `replace` is not set.
    """
    checks = [
        check
        for made in product.towers
        for check in tower_checks(made.name, made.scheme, made.trial, overrides)
    ]
    verdict = EncoderVerdict(
        name=name,
        checks=tuple(checks),
        skipped={},
        overrides=dict(overrides),
        difference=product.record.difference,
    )
    refuse_failures([(check.variant, reason) for check in checks for reason in check.failures])
    contents = _contents(product, verdict)
    manifest = _manifest(product, contents, name, overrides)
    return write_bundle(out, manifest, contents, replace=replace), verdict


def tower_checks(
    name: str, scheme: str, recorded: TowerTrial, overrides: Overrides
) -> Iterable[EncoderCheck]:
    """What was found of the two towers of a variant, beside their limits."""
    limits = vectors_promised(scheme) | asked_for(name, overrides)
    for what, golden, fidelity in (
        ("texts", recorded.golden_texts, recorded.texts),
        ("pictures", recorded.golden_pictures, recorded.pictures),
    ):
        yield EncoderCheck(
            variant=f"{name} ({what})",
            limits=limits,
            golden_measure=Measure.GOLDEN_COSINE,
            golden=golden,
            recorded=fidelity,
        )


def _contents(product: DualProduct, verdict: EncoderVerdict) -> Contents:
    """Every file but the manifest."""
    golden = product.golden
    contents: Contents = {
        TOKENIZER_FILE: product.source.tokenizer_file,
        GOLDEN_FILE: _indented(golden.texts),
        PICTURES_FILE: _indented(golden.pictures),
        REPORT_FILE: verdict_json(verdict),
        REPORT_PAGE: verdict_page(verdict).encode(),
    }
    for made in product.towers:
        for file in (TEXT_FILE, IMAGE_FILE):
            for name in (file, f"{file}{DATA_SUFFIX}"):
                contents[f"{made.name}/{name}"] = made.folder / name
    if (path := product.source.folder / LICENCE_FILE).is_file():
        contents[LICENCE_FILE] = path
    return contents


def _indented(samples: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(samples), indent=1) + b"\n"


def _manifest(
    product: DualProduct, contents: Contents, name: str, overrides: Overrides
) -> DualEncoder:
    record = product.record
    texts = tuple(
        TextTower(
            name=made.name,
            device=made.device,
            scheme=made.scheme,
            graph=f"{made.name}/{TEXT_FILE}",
            io=record.text_io,
            fidelity=made.trial.texts,
        )
        for made in product.towers
    )
    images = tuple(
        ImageTower(
            name=made.name,
            device=made.device,
            scheme=made.scheme,
            graph=f"{made.name}/{IMAGE_FILE}",
            io=record.image_io,
            fidelity=made.trial.pictures,
        )
        for made in product.towers
    )
    return DualEncoder(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        name=name,
        golden={"embed": GOLDEN_FILE, GOLDEN_PICTURES: PICTURES_FILE},
        provenance=provenance(
            product.source,
            parameters=product.parameters,
            libraries=product.libraries,
            overrides=overrides,
        ),
        files=entries(contents),
        components=DualEncoderComponents(
            text=Variants(variants=texts), image=Variants(variants=images)
        ),
        processors=DualEncoderProcessors(
            tokenizer=Tokenizer(file=TOKENIZER_FILE), pictures=record.steps
        ),
        context_length=record.context_length,
        vocab_size=record.vocab_size,
        pad_token_id=record.pad_token_id,
        is_padded=record.is_padded,
        dimensions=record.dimensions,
        patches=record.patches,
        likelihood=record.likelihood,
    )
