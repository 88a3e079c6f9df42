"""The bundle of an encoder, of what its stages made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from exporters.bundle.package import (
    GOLDEN_FILE,
    TOKENIZER_FILE,
    Contents,
    entries,
    provenance,
    write_bundle,
)
from exporters.encoder.records import ExportedEncoder
from exporters.encoder.schemes import promised
from exporters.encoder.verdict import VectorCheck, VectorVerdict, verdict_json, verdict_page
from exporters.errors import ExportError
from exporters.graph.records import DATA_FILE, GRAPH_FILE
from exporters.measure.build_report import REPORT_FILE, REPORT_PAGE
from exporters.measure.thresholds import Overrides, asked_for
from exporters.model.source import LICENCE_FILE, Source
from nsedge.bundle.encoder import (
    Encoder,
    EncoderComponents,
    EncoderProcessors,
    EncoderVariant,
)
from nsedge.bundle.fields import FORMAT, FORMAT_VERSION, Tokenizer, Variants


@dataclass(frozen=True, kw_only=True)
class EncoderProduct:
    """What an export made: its graphs' directories by variant, and the folder of the model."""

    exported: ExportedEncoder
    source: Source
    folders: dict[str, Path]


def package(
    product: EncoderProduct, out: Path, *, name: str, overrides: Overrides, replace: bool
) -> tuple[bool, VectorVerdict]:
    """Write the bundle `name`; whether it was not there already, and how its variants are.

    Raises:
        ExportError: a variant is farther from fp32 than it may be, or something else is at `out`
            and `replace` is not set.
    """
    verdict = _verdict(product.exported, name, overrides)
    if not verdict.passed:
        told = [f"{c.variant}: {reason}" for c in verdict.checks for reason in c.failures]
        raise ExportError(f"not packaged: {'; '.join(told)}; --threshold sets other limits")
    contents = _contents(product, verdict)
    manifest = _manifest(product, contents, name, overrides)
    return write_bundle(out, manifest, contents, replace=replace), verdict


def _verdict(exported: ExportedEncoder, name: str, overrides: Overrides) -> VectorVerdict:
    checks = [
        VectorCheck(
            variant=made.name,
            limits=promised(made.scheme) | asked_for(made.name, overrides),
            golden=made.golden,
            recorded=made.fidelity,
        )
        for made in exported.variants
    ]
    return VectorVerdict(
        name=name,
        checks=tuple(checks),
        skipped={},
        overrides=dict(overrides),
        difference=exported.record.difference,
        notes=exported.notes,
    )


def _contents(product: EncoderProduct, verdict: VectorVerdict) -> Contents:
    """Every file but the manifest."""
    golden = msgspec.json.encode(product.exported.golden)
    contents: Contents = {
        TOKENIZER_FILE: product.source.tokenizer_file,
        GOLDEN_FILE: msgspec.json.format(golden, indent=1) + b"\n",
        REPORT_FILE: verdict_json(verdict),
        REPORT_PAGE: verdict_page(verdict).encode(),
    }
    for variant, folder in product.folders.items():
        for name in (GRAPH_FILE, DATA_FILE):
            contents[f"{variant}/{name}"] = folder / name
    if (path := product.source.folder / LICENCE_FILE).is_file():
        contents[LICENCE_FILE] = path
    return contents


def _manifest(
    product: EncoderProduct, contents: Contents, name: str, overrides: Overrides
) -> Encoder:
    exported = product.exported
    record = exported.record
    variants = tuple(
        EncoderVariant(
            name=made.name,
            device=made.device,
            scheme=made.scheme,
            graph=f"{made.name}/{GRAPH_FILE}",
            io=record.io,
            fidelity=made.fidelity,
        )
        for made in exported.variants
    )
    return Encoder(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        name=name,
        golden={"embed": GOLDEN_FILE},
        provenance=provenance(
            product.source,
            parameters=exported.parameters,
            libraries=exported.libraries,
            overrides=overrides,
        ),
        files=entries(contents),
        components=EncoderComponents(encoder=Variants(variants=variants)),
        processors=EncoderProcessors(tokenizer=Tokenizer(file=TOKENIZER_FILE)),
        context_length=record.context_length,
        vocab_size=record.vocab_size,
        pad_token_id=record.pad_token_id,
        dimensions=record.dimensions,
        pooling=record.pooling,
        normalised=record.normalised,
    )
