"""Check a finished bundle of a dual encoder: its files, its golden vectors, how near it is to
fp32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from exporters.bundle.package import LINKS, variant_digest
from exporters.cache import Cache
from exporters.dual_encoder.package import tower_checks
from exporters.dual_encoder.records import DualRecord, Golden, TowerTrial, session_of
from exporters.dual_encoder.trial import golden_cosines, tower_trial
from exporters.encoder.outputs import VectorOutput
from exporters.encoder.verdict import EncoderCheck, EncoderVerdict
from exporters.errors import ExportError
from exporters.measure.examining import examined
from exporters.measure.thresholds import OF_VECTORS, check_overrides
from exporters.model.source import read_tokenizer
from nsedge.bundle.dual_encoder import GOLDEN_PICTURES, DualEncoder, GoldenPicture, TextTower
from nsedge.bundle.encoder import GoldenVector
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.graph.dual_encoder import DualEncoderSession, TowerFacts


def verify_dual_encoder(
    bundle: Bundle[DualEncoder], cache: Cache, *, overrides: Mapping[str, float]
) -> EncoderVerdict:
    """Check `bundle`; fidelity anew if the fp32 graphs it came from are in `cache`.

    Raises:
        BundleInvalid: a file is missing, cut short or altered; the message names it.
        ExportError: a limit is of no variant.
    """
    bundle.verify_hashes()
    manifest = bundle.manifest
    towers = manifest.components.text.variants
    named = {variant.name for variant in towers}
    check_overrides(overrides, named, measures=OF_VECTORS)
    limits = {**manifest.provenance.thresholds, **overrides}
    folder = cache.follow(LINKS, variant_digest(bundle))
    exact = None if folder is None else session_of(folder, DualRecord.read(folder))
    checks, skipped = examined(towers, lambda one: _checked(bundle, one, exact, limits))
    return EncoderVerdict(
        name=manifest.name,
        checks=tuple(check for both in checks for check in both),
        skipped=skipped,
        overrides=limits,
    )


def _checked(
    bundle: Bundle[DualEncoder],
    variant: TextTower,
    exact: DualEncoderSession | None,
    limits: Mapping[str, float],
) -> list[EncoderCheck]:
    """A check of each tower: its golden vectors, and its nearness as recorded and as measured."""
    manifest = bundle.manifest
    image = manifest.image_tower(variant.name)
    if variant.fidelity is None or image.fidelity is None:
        raise ExportError(f"variant {variant.name} says nothing of its nearness to fp32")
    session = DualEncoderSession(
        bundle.path, variant, image, facts=TowerFacts.of(manifest), threads=0
    )
    output = VectorOutput(
        read_tokenizer(bundle.file(manifest.tokenizer.file)),
        context_length=manifest.context_length,
        vocab_size=manifest.vocab_size,
    )
    golden = Golden(
        texts=bundle.golden("embed", GoldenVector),
        pictures=bundle.golden(GOLDEN_PICTURES, GoldenPicture),
    )
    texts, pictures = golden_cosines(session, output, golden)
    recorded = TowerTrial(
        texts=variant.fidelity,
        pictures=image.fidelity,
        golden_texts=texts,
        golden_pictures=pictures,
    )
    checks = list(tower_checks(variant.name, variant.scheme, recorded, limits))
    if exact is None:
        return checks
    found = tower_trial(session, exact, output=output, golden=golden)
    measured = (found.texts, found.pictures)
    return [replace(check, measured=now) for check, now in zip(checks, measured, strict=True)]
