"""Check a finished bundle of a captioner: its files, its golden captions, its nearness to fp32."""

from __future__ import annotations

from collections.abc import Mapping

from exporters.bundle.package import LINKS, variant_digest
from exporters.cache import Cache
from exporters.caption.records import PROMISES, open_runner, runner_of
from exporters.caption.trial import fidelity, others, samples_of
from exporters.conditioned.runner import ConditionedRunner
from exporters.conditioned.samples import Sample, golden_share
from exporters.conditioned.verdict import MEASURED, Check, ConditionedVerdict
from exporters.measure.examining import examined
from exporters.measure.thresholds import asked_for, check_overrides
from exporters.model.conditioned import DecoderShape
from nsedge.bundle.caption import Caption, CaptionVariant, GoldenCaption
from nsedge.bundle.manifest import Bundle


def verify_caption(
    bundle: Bundle[Caption], cache: Cache, *, overrides: Mapping[str, float]
) -> ConditionedVerdict:
    """Check `bundle`; fidelity anew if the fp32 graphs it came from are in `cache`.

    Raises:
        BundleInvalid: a file is missing, cut short or altered; the message names it.
        ExportError: a limit is of a variant that there is none of.
    """
    bundle.verify_hashes()
    manifest = bundle.manifest
    variants = manifest.components.decoder.variants
    check_overrides(overrides, {variant.name for variant in variants}, measures=MEASURED)
    limits = {**manifest.provenance.thresholds, **overrides}
    reference = cache.follow(LINKS, variant_digest(bundle))
    exact = None if reference is None else runner_of(reference, _shape(manifest))
    checks, skipped = examined(variants, lambda one: _check(bundle, one, exact, limits))
    return ConditionedVerdict(
        name=manifest.name, checks=checks, skipped=skipped, overrides=dict(limits)
    )


def _check(
    bundle: Bundle[Caption],
    variant: CaptionVariant,
    exact: ConditionedRunner | None,
    limits: Mapping[str, float],
) -> Check:
    manifest = bundle.manifest
    runner = open_runner(
        bundle.path,
        manifest.components.encoder_of(variant.name),
        variant,
        vocabulary=manifest.vocab_size,
        positions=manifest.context_length,
    )
    golden = samples_of(bundle.golden("caption", GoldenCaption), manifest.processors.pictures)
    measured = None
    if exact is not None:
        measured = fidelity(exact, runner, _written(exact, manifest))
    return Check(
        variant=variant.name,
        limits=PROMISES.get(variant.scheme, {}) | asked_for(variant.name, limits),
        golden=golden_share(runner, golden),
        recorded=variant.seen,
        measured=measured,
    )


def _written(exact: ConditionedRunner, manifest: Caption) -> list[Sample]:
    return others(
        exact,
        manifest.processors.pictures,
        start=manifest.start_id,
        ends=manifest.eos_token_ids,
        most=manifest.max_length,
    )


def _shape(manifest: Caption) -> DecoderShape:
    """Sizes as the fp32 graphs have them."""
    kv = manifest.components.decoder.variants[0].memory.kv
    return DecoderShape(
        layers=kv.layers,
        heads=kv.heads,
        head_size=kv.head_dim,
        positions=manifest.context_length,
        vocabulary=manifest.vocab_size,
        frames=manifest.frames,
    )
