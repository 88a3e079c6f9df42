"""The bundle of an encoder, of what its stages made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.bundle.choosing import refuse_failures
from exporters.bundle.package import (
    GOLDEN_FILE,
    TOKENIZER_FILE,
    Contents,
    entries,
    provenance,
    write_bundle,
)
from exporters.encoder.outputs import Output
from exporters.encoder.records import ExportedEncoder, HeadSpec
from exporters.encoder.verdict import EncoderCheck, EncoderVerdict, verdict_page
from exporters.graph.records import DATA_FILE, GRAPH_FILE
from exporters.measure.build_report import REPORT_FILE, REPORT_PAGE
from exporters.measure.findings import verdict_json
from exporters.measure.thresholds import Overrides, asked_for
from exporters.model.heads import special_token
from exporters.model.source import LICENCE_FILE, Source
from nsedge.bundle.encoder import (
    Encoder,
    EncoderComponents,
    EncoderProcessors,
    EncoderVariant,
    VectorFidelity,
)
from nsedge.bundle.fields import FORMAT, FORMAT_VERSION, Tokenizer, Variants
from nsedge.bundle.headed import HeadComponents, HeadedEncoder, HeadVariant, ScoreFidelity


@dataclass(frozen=True, kw_only=True)
class EncoderProduct:
    """What an export made: its graphs' directories by variant, the folder of the model, and what
    the graphs give."""

    exported: ExportedEncoder
    source: Source
    folders: dict[str, Path]
    output: Output


def package(
    product: EncoderProduct, out: Path, *, name: str, overrides: Overrides, replace: bool
) -> tuple[bool, EncoderVerdict]:
    """Write the bundle `name`; whether it was not there already, and how its variants are.

    Raises:
        ExportError: a variant is farther from fp32 than it may be, or something else is at `out`
            and `replace` is not set.
    """
    verdict = _verdict(product, name, overrides)
    refuse_failures([(c.variant, reason) for c in verdict.checks for reason in c.failures])
    contents = _contents(product, verdict)
    manifest = _manifest(product, contents, name, overrides)
    return write_bundle(out, manifest, contents, replace=replace), verdict


def _verdict(product: EncoderProduct, name: str, overrides: Overrides) -> EncoderVerdict:
    exported, output = product.exported, product.output
    checks = [
        EncoderCheck(
            variant=made.name,
            limits=output.promised(made.scheme) | asked_for(made.name, overrides),
            golden_measure=output.golden_measure,
            golden=made.golden,
            recorded=made.fidelity,
        )
        for made in exported.variants
    ]
    return EncoderVerdict(
        name=name,
        checks=tuple(checks),
        skipped={},
        overrides=dict(overrides),
        difference=exported.record.difference,
        notes=exported.notes,
    )


def _contents(product: EncoderProduct, verdict: EncoderVerdict) -> Contents:
    """Every file but the manifest."""
    contents: Contents = {
        TOKENIZER_FILE: product.source.tokenizer_file,
        GOLDEN_FILE: product.exported.golden,
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
) -> Encoder | HeadedEncoder:
    exported = product.exported
    record = exported.record
    common: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "golden": {product.output.task: GOLDEN_FILE},
        "provenance": provenance(
            product.source,
            parameters=exported.parameters,
            libraries=exported.libraries,
            overrides=overrides,
        ),
        "files": entries(contents),
        "context_length": record.context_length,
        "vocab_size": record.vocab_size,
        "pad_token_id": record.pad_token_id,
    }
    gives = record.gives
    if isinstance(gives, HeadSpec):
        unknown = special_token(product.source, "unk_token")
        tokenizer = Tokenizer(file=TOKENIZER_FILE, unk_token=unknown)
        variants = tuple(_headed_variants(exported, gives))
        return HeadedEncoder(
            **common,
            components=HeadComponents(encoder=Variants(variants=variants)),
            processors=EncoderProcessors(tokenizer=tokenizer),
            head=gives.head,
        )
    return Encoder(
        **common,
        components=EncoderComponents(
            encoder=Variants(
                variants=tuple(
                    EncoderVariant(
                        name=made.name,
                        device=made.device,
                        scheme=made.scheme,
                        graph=f"{made.name}/{GRAPH_FILE}",
                        io=gives.io,
                        fidelity=made.fidelity,
                    )
                    for made in exported.variants
                    if isinstance(made.fidelity, VectorFidelity)
                )
            )
        ),
        processors=EncoderProcessors(tokenizer=Tokenizer(file=TOKENIZER_FILE)),
        dimensions=gives.dimensions,
        pooling=gives.pooling,
        normalised=gives.normalised,
    )


def _headed_variants(exported: ExportedEncoder, gives: HeadSpec) -> list[HeadVariant]:
    return [
        HeadVariant(
            name=made.name,
            device=made.device,
            scheme=made.scheme,
            graph=f"{made.name}/{GRAPH_FILE}",
            io=gives.io,
            fidelity=made.fidelity,
        )
        for made in exported.variants
        if isinstance(made.fidelity, ScoreFidelity)
    ]
