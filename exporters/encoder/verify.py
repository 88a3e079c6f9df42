"""Check a finished bundle of an encoder: its files, its golden vectors, its nearness to fp32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exporters.bundle.build import LINKS
from exporters.bundle.package import variant_digest
from exporters.cache import Cache
from exporters.encoder.records import EncoderRecord, session_of
from exporters.encoder.schemes import promised
from exporters.encoder.texts import fidelity_texts
from exporters.encoder.trial import Floats, fidelity, golden_cosine, vectors_of
from exporters.encoder.verdict import VectorCheck, VectorVerdict
from exporters.errors import ExportError
from exporters.measure.thresholds import asked_for, check_overrides
from exporters.model.source import read_tokenizer
from exporters.model.texts import fidelity_text_sha256, lines_of
from nsedge import native
from nsedge.bundle.encoder import Encoder, EncoderVariant, GoldenVector
from nsedge.bundle.files import sha256_of
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.graph.encoder import EncoderSession
from nsedge.runtime.text.reader import TextReader


def verify_encoder(
    bundle: Bundle[Encoder],
    cache: Cache,
    *,
    text: Path | None = None,
    overrides: Mapping[str, float],
) -> VectorVerdict:
    """Check `bundle`; fidelity anew if the fp32 graph it came from is in `cache`.

    `text` is a file of the user's to measure over, too, each line a text.

    Raises:
        BundleInvalid: a file is missing, cut short or altered; the message names it.
        ExportError: the user's texts cannot be read, or there is no fp32 to hold them against.
    """
    bundle.verify_hashes()
    manifest = bundle.manifest
    check_overrides(overrides, {variant.name for variant in manifest.variants}, vectors=True)
    reference = cache.follow(LINKS, variant_digest(bundle))
    if text is not None and reference is None:
        raise ExportError("--text needs the fp32 graph, which is not in the cache: export again")
    examination = _Examination(bundle, reference, text, overrides)
    checks, skipped = [], {}
    for variant in manifest.variants:
        lacking = native.missing(variant.requires)
        if lacking is None:
            checks.append(examination.check(variant))
        else:
            skipped[variant.name] = lacking
    return VectorVerdict(
        name=manifest.name,
        checks=tuple(checks),
        skipped=skipped,
        overrides=examination.overrides,
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


def open_variant(bundle: Bundle[Encoder], variant: EncoderVariant) -> EncoderSession:
    """A variant on as many threads as ONNX Runtime takes.

    Raises:
        BundleInvalid: it does not load.
    """
    manifest = bundle.manifest
    return EncoderSession(
        bundle.file(variant.graph),
        variant,
        threads=0,
        pad_id=manifest.pad_token_id,
        dimensions=manifest.dimensions,
    )


class _Examination:
    """One bundle, and what the fp32 graph makes of the texts, where that is at hand."""

    def __init__(
        self,
        bundle: Bundle[Encoder],
        reference: Path | None,
        text: Path | None,
        overrides: Mapping[str, float],
    ) -> None:
        manifest = bundle.manifest
        self._bundle = bundle
        self.overrides = {**manifest.provenance.thresholds, **overrides}
        reader = open_reader(bundle)
        self._wanted: dict[str, tuple[list[tuple[int, ...]], Floats]] = {}
        """By the SHA-256 of a file of texts: their ids, and fp32's vectors."""
        self._own = fidelity_text_sha256()
        self._users = None if text is None else sha256_of(text)
        if reference is None:
            return
        exact = session_of(reference, EncoderRecord.read(reference))
        files = [(self._own, fidelity_texts())]
        if text is not None and self._users is not None:
            files.append((self._users, lines_of(text, "text")))
        for digest, texts in files:
            ids = reader.read(texts, truncate=True)
            self._wanted[digest] = ids, vectors_of(exact, ids)

    def check(self, variant: EncoderVariant) -> VectorCheck:
        """Run one variant."""
        session = open_variant(self._bundle, variant)
        found = {
            digest: fidelity(wanted, vectors_of(session, ids), text_sha256=digest)
            for digest, (ids, wanted) in self._wanted.items()
        }
        return VectorCheck(
            variant=variant.name,
            limits=promised(variant.scheme) | asked_for(variant.name, self.overrides),
            golden=golden_cosine(session, self._bundle.golden("embed", GoldenVector)),
            recorded=variant.fidelity,
            measured=found.get(self._own),
            text=None if self._users is None else found.get(self._users),
        )
