"""The bundle of a captioner, of what its stages made."""

from __future__ import annotations

from collections.abc import Mapping
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
from exporters.caption.records import PROMISES
from exporters.conditioned.records import ConditionedRecord, Form, graph_files, judged
from exporters.conditioned.verdict import ConditionedVerdict, verdict_json, verdict_page
from exporters.measure.build_report import REPORT_FILE, REPORT_PAGE
from exporters.measure.thresholds import Overrides
from exporters.model.caption import CaptionShape, Writing
from exporters.model.source import LICENCE_FILE, Source
from nsedge.bundle.caption import (
    Caption,
    CaptionProcessors,
    CaptionVariant,
    GoldenCaption,
    LookerVariant,
)
from nsedge.bundle.conditioning import EncoderDecoder
from nsedge.bundle.fields import FORMAT, FORMAT_VERSION, Tokenizer, Variants


@dataclass(frozen=True, kw_only=True)
class CaptionProduct:
    """What an export made: forms, the fastest first; their graphs' directories by variant; what
    fp32 writes of golden patterns."""

    source: Source
    shape: CaptionShape
    writing: Writing
    record: ConditionedRecord
    libraries: dict[str, str]
    forms: tuple[Form[LookerVariant, CaptionVariant], ...]
    folders: Mapping[str, Path]
    golden: tuple[GoldenCaption, ...]


def package(
    product: CaptionProduct, out: Path, *, name: str, overrides: Overrides, replace: bool
) -> tuple[bool, ConditionedVerdict]:
    """Write the bundle `name`; whether it was not there already, and how its forms are.

    Raises:
        ExportError: a form is farther from fp32 than it may be, or something else is at `out` and
            `replace` is not set.
    """
    verdict = judged(
        product.forms,
        PROMISES,
        name=name,
        overrides=overrides,
        difference=product.record.difference,
    )
    golden = msgspec.json.encode(product.golden)
    contents: Contents = {
        TOKENIZER_FILE: product.source.tokenizer_file,
        GOLDEN_FILE: msgspec.json.format(golden, indent=1) + b"\n",
        REPORT_FILE: verdict_json(verdict),
        REPORT_PAGE: verdict_page(verdict).encode(),
        **graph_files(product.forms, product.folders),
    }
    if (path := product.source.folder / LICENCE_FILE).is_file():
        contents[LICENCE_FILE] = path
    manifest = _manifest(product, contents, name, overrides)
    return write_bundle(out, manifest, contents, replace=replace), verdict


def _manifest(
    product: CaptionProduct, contents: Contents, name: str, overrides: Overrides
) -> Caption:
    source, shape, writing = product.source, product.shape, product.writing
    decoders = tuple(
        msgspec.structs.replace(form.decoder, seen=form.trial.fidelity) for form in product.forms
    )
    return Caption(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        name=name,
        golden={"caption": GOLDEN_FILE},
        provenance=provenance(
            source,
            parameters=source.parameters(),
            libraries=product.libraries,
            overrides=overrides,
        ),
        files=entries(contents),
        components=EncoderDecoder[LookerVariant, CaptionVariant](
            encoder=Variants(variants=tuple(form.encoder for form in product.forms)),
            decoder=Variants(variants=decoders),
        ),
        processors=CaptionProcessors(
            tokenizer=Tokenizer(file=TOKENIZER_FILE), pictures=shape.steps
        ),
        context_length=shape.decoder.positions,
        vocab_size=shape.decoder.vocabulary,
        frames=shape.decoder.frames,
        start_id=writing.start_id,
        eos_token_ids=writing.eos_ids,
        pad_token_id=writing.pad_id,
        max_length=writing.max_length,
        search=writing.search,
        generation_defaults=writing.defaults,
    )
