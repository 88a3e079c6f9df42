"""Check a finished bundle of an encoder: its files, its golden samples, its nearness to fp32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporters.bundle.package import LINKS, variant_digest
from exporters.cache import Cache
from exporters.encoder.outputs import output_of_bundle
from exporters.encoder.records import AnyFidelity, AnySession, EncoderRecord, session_of
from exporters.encoder.texts import fidelity_texts
from exporters.encoder.verdict import EncoderCheck, EncoderVerdict
from exporters.errors import ExportError
from exporters.measure.examining import examined
from exporters.measure.thresholds import asked_for, check_overrides
from exporters.model.source import read_tokenizer
from exporters.model.texts import fidelity_text_sha256, lines_of
from nsedge.bundle.encoder import Encoder, EncoderVariant
from nsedge.bundle.files import sha256_of
from nsedge.bundle.headed import HeadedEncoder, HeadVariant
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.graph.encoder import EncoderSession
from nsedge.runtime.graph.headed import HeadSession
from nsedge.runtime.text.reader import TextReader

AnyVariantOf = EncoderVariant | HeadVariant


def verify_encoder(
    bundle: Bundle[Encoder | HeadedEncoder],
    cache: Cache,
    *,
    text: Path | None = None,
    overrides: Mapping[str, float],
) -> EncoderVerdict:
    """Check `bundle`; fidelity anew if the fp32 graph it came from is in `cache`.

    `text` is a file of the user's to measure over, too, each line a text.

    Raises:
        BundleInvalid: a file is missing, cut short or altered; the message names it.
        ExportError: the user's texts cannot be read, or there is no fp32 to hold them against.
    """
    bundle.verify_hashes()
    manifest = bundle.manifest
    reference = cache.follow(LINKS, variant_digest(bundle))
    examination = _Examination(bundle, reference, text, overrides)
    check_overrides(
        overrides,
        {variant.name for variant in manifest.variants},
        measures=examination.output.measures,
    )
    if text is not None and reference is None:
        raise ExportError("--text needs the fp32 graph, which is not in the cache: export again")
    variants: tuple[AnyVariantOf, ...] = manifest.variants
    checks, skipped = examined(variants, examination.check)
    return EncoderVerdict(
        name=manifest.name, checks=checks, skipped=skipped, overrides=examination.overrides
    )


def open_reader(bundle: Bundle[Encoder]) -> TextReader:
    """What reads texts for the bundle's model.

    Raises:
        ExportError: the tokenizer cannot be read.
    """
    manifest = bundle.manifest
    return TextReader(
        read_tokenizer(bundle.file(manifest.tokenizer.file)),
        context_length=manifest.context_length,
        vocab_size=manifest.vocab_size,
    )


def open_variant(bundle: Bundle[Any], variant: AnyVariantOf) -> AnySession:
    """A variant on as many threads as ONNX Runtime takes.

    Raises:
        BundleInvalid: it does not load.
    """
    manifest, graph = bundle.manifest, bundle.file(variant.graph)
    if isinstance(variant, HeadVariant):
        return HeadSession(
            graph,
            variant,
            threads=0,
            pad_id=manifest.pad_token_id,
            head=manifest.head,
            vocab_size=manifest.vocab_size,
        )
    return EncoderSession(
        graph, variant, threads=0, pad_id=manifest.pad_token_id, dimensions=manifest.dimensions
    )


class _Examination:
    """One bundle, and the fp32 graph with what it is given, where that is at hand."""

    def __init__(
        self,
        bundle: Bundle[Encoder | HeadedEncoder],
        reference: Path | None,
        text: Path | None,
        overrides: Mapping[str, float],
    ) -> None:
        manifest = bundle.manifest
        self._bundle = bundle
        self.overrides = {**manifest.provenance.thresholds, **overrides}
        tokenizer = read_tokenizer(bundle.file(manifest.tokenizer.file))
        self.output = output_of_bundle(manifest, tokenizer)
        self._golden = bundle.golden(self.output.task, self.output.sample_type)
        self._own = fidelity_text_sha256()
        self._users = None if text is None else sha256_of(text)
        self._exact: AnySession | None = None
        self._rows: dict[str, list[Any]] = {}
        """By the SHA-256 of a file of texts."""
        if reference is None:
            return
        self._exact = session_of(reference, EncoderRecord.read(reference))
        self._rows[self._own] = self.output.read(fidelity_texts())
        if text is not None and self._users is not None:
            self._rows[self._users] = self.output.read(lines_of(text, "text"))

    def check(self, variant: AnyVariantOf) -> EncoderCheck:
        """Run one variant."""
        session, output = open_variant(self._bundle, variant), self.output
        found: dict[str, AnyFidelity] = {}
        if self._exact is not None:
            for digest, rows in self._rows.items():
                found[digest] = output.compared(self._exact, session, rows, digest)
        return EncoderCheck(
            variant=variant.name,
            limits=output.promised(variant.scheme) | asked_for(variant.name, self.overrides),
            golden_measure=output.golden_measure,
            golden=output.nearness(session, self._golden),
            recorded=variant.fidelity,
            measured=found.get(self._own),
            text=None if self._users is None else found.get(self._users),
        )
