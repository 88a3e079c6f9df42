"""The bundle of a speech model, of what its stages made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from exporters.bundle.package import (
    GOLDEN_FILE,
    TOKENIZER_FILE,
    Contents,
    entries,
    provenance,
    write_bundle,
)
from exporters.conditioned.records import ConditionedRecord, Form, graph_files, judged
from exporters.conditioned.verdict import ConditionedVerdict, verdict_json, verdict_page
from exporters.measure.build_report import REPORT_FILE, REPORT_PAGE
from exporters.measure.thresholds import Overrides
from exporters.model.source import LICENCE_FILE, Source
from exporters.model.speech import SpeechShape, read_alignment_heads, read_tokens
from exporters.speech.audio import mel_filters
from exporters.speech.records import ALIGNER_FILE, NATIVE_ALIGNER_FILE, PROMISES
from exporters.speech.voice import VOICE_FILE
from nsedge.bundle.conditioning import EncoderDecoder
from nsedge.bundle.fields import FORMAT, FORMAT_VERSION, Tokenizer, Variants
from nsedge.bundle.speech import (
    GoldenSpeech,
    ListenerVariant,
    LogMel,
    Speech,
    SpeechProcessors,
    SpeechVariant,
)

FILTERS_FILE = "mel_filters.f32"


@dataclass(frozen=True, kw_only=True)
class SpeechProduct:
    """What an export made: forms, the fastest first; their graphs' directories by variant; golden
    recordings and what fp32 writes of them; the voice detector's files by their names in a
    bundle."""

    source: Source
    shape: SpeechShape
    record: ConditionedRecord
    libraries: dict[str, str]
    forms: tuple[Form[ListenerVariant, SpeechVariant], ...]
    folders: Mapping[str, Path]
    golden: tuple[GoldenSpeech, ...]
    golden_folder: Path
    voice: Mapping[str, Path]


def package(
    product: SpeechProduct, out: Path, *, name: str, overrides: Overrides, replace: bool
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
    contents = _contents(product, verdict)
    manifest = _manifest(product, contents, name, overrides)
    return write_bundle(out, manifest, contents, replace=replace), verdict


def _contents(product: SpeechProduct, verdict: ConditionedVerdict) -> Contents:
    """Every file but the manifest."""
    golden = msgspec.json.encode(product.golden)
    contents: Contents = {
        TOKENIZER_FILE: product.source.tokenizer_file,
        GOLDEN_FILE: msgspec.json.format(golden, indent=1) + b"\n",
        FILTERS_FILE: np.asarray(mel_filters(product.source, product.shape.bins), "<f4").tobytes(),
        REPORT_FILE: verdict_json(verdict),
        REPORT_PAGE: verdict_page(verdict).encode(),
    }
    contents |= product.voice
    for sample in product.golden:
        contents[sample.audio] = product.golden_folder / sample.audio
    aligners = {False: ALIGNER_FILE, True: NATIVE_ALIGNER_FILE}
    contents |= graph_files(product.forms, product.folders, beside=aligners)
    if (path := product.source.folder / LICENCE_FILE).is_file():
        contents[LICENCE_FILE] = path
    return contents


def _manifest(
    product: SpeechProduct, contents: Contents, name: str, overrides: Overrides
) -> Speech:
    source, shape = product.source, product.shape
    decoders = tuple(
        msgspec.structs.replace(form.decoder, heard=form.trial.fidelity) for form in product.forms
    )
    return Speech(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        name=name,
        golden={"transcribe": GOLDEN_FILE},
        provenance=provenance(
            source,
            parameters=source.parameters(),
            libraries=product.libraries,
            overrides=overrides,
        ),
        files=entries(contents),
        components=EncoderDecoder[ListenerVariant, SpeechVariant](
            encoder=Variants(variants=tuple(form.encoder for form in product.forms)),
            decoder=Variants(variants=decoders),
        ),
        processors=SpeechProcessors(
            tokenizer=Tokenizer(file=TOKENIZER_FILE),
            features=LogMel(filters=FILTERS_FILE, bins=shape.bins),
            voice=VOICE_FILE if VOICE_FILE in product.voice else None,
        ),
        context_length=shape.positions,
        vocab_size=shape.vocabulary,
        frames=shape.frames,
        tokens=read_tokens(source, shape),
        alignment_heads=read_alignment_heads(source, shape),
    )
