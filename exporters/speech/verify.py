"""Check a finished bundle of a speech model: its files, its golden recordings, its nearness to
fp32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from exporters.bundle.package import LINKS, variant_digest
from exporters.cache import Cache
from exporters.conditioned.runner import ConditionedRunner
from exporters.conditioned.samples import Sample, golden_share
from exporters.conditioned.verdict import MEASURED, Check, ConditionedVerdict
from exporters.measure.examining import examined
from exporters.measure.thresholds import asked_for, check_overrides
from exporters.model.speech import SpeechShape
from exporters.speech.audio import Floats
from exporters.speech.records import PROMISES
from exporters.speech.runner import runner_of
from exporters.speech.trial import clips_sha256, fidelity, samples_of
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.speech import GoldenSpeech, Speech, SpeechVariant
from nsedge.runtime.hosting.golden_speech import tokens_of
from nsedge.runtime.speech.rules import Rules


def verify_speech(
    bundle: Bundle[Speech], cache: Cache, *, overrides: Mapping[str, float]
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
    samples = samples_of(bundle.golden("transcribe", GoldenSpeech), bundle.path, _filters(bundle))
    reference = cache.follow(LINKS, variant_digest(bundle))
    exact = None if reference is None else runner_of(reference, _shape(manifest))
    checks, skipped = examined(variants, lambda one: _check(bundle, one, samples, exact, limits))
    return ConditionedVerdict(
        name=manifest.name, checks=checks, skipped=skipped, overrides=dict(limits)
    )


def _check(
    bundle: Bundle[Speech],
    variant: SpeechVariant,
    samples: list[Sample],
    exact: ConditionedRunner | None,
    limits: Mapping[str, float],
) -> Check:
    manifest = bundle.manifest
    encoder = manifest.components.encoder_of(variant.name)
    runner = ConditionedRunner(
        bundle.path,
        encoder,
        variant,
        reads=encoder.io.features,
        vocabulary=manifest.vocab_size,
        positions=manifest.context_length,
    )
    same = variant.heard is not None and variant.heard.audio_sha256 == clips_sha256()
    return Check(
        variant=variant.name,
        limits=PROMISES.get(variant.scheme, {}) | asked_for(variant.name, limits),
        golden=golden_share(runner, samples, Rules(tokens_of(manifest.tokens)).apply),
        recorded=variant.heard,
        measured=fidelity(exact, runner, samples) if exact is not None and same else None,
    )


def _filters(bundle: Bundle[Speech]) -> Floats:
    features = bundle.manifest.processors.features
    numbers = np.frombuffer(bundle.file(features.filters).read_bytes(), "<f4")
    return numbers.reshape(features.bins, -1)


def _shape(manifest: Speech) -> SpeechShape:
    """Sizes as the fp32 graphs have them; of the encoder they say nothing."""
    kv = manifest.components.decoder.variants[0].memory.kv
    return SpeechShape(
        width=kv.heads * kv.head_dim,
        bins=manifest.processors.features.bins,
        frames=manifest.frames,
        positions=manifest.context_length,
        vocabulary=manifest.vocab_size,
        encoder_layers=0,
        decoder_layers=kv.layers,
        encoder_heads=0,
        decoder_heads=kv.heads,
    )
