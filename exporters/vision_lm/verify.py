"""Check the encoder of a finished bundle that sees: its golden pictures, how near it is to fp32,
and how near what its decoders say after pictures is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from exporters.bundle.package import LINKS, variant_digest
from exporters.bundle.verify import reader_of
from exporters.cache import Cache
from exporters.encoder.verdict import EncoderCheck, EncoderVerdict
from exporters.measure.examining import examined
from exporters.measure.runner import TEXT_ROOM, Runner, runner_of
from exporters.model.texts import fidelity_passages, fidelity_text_sha256
from exporters.vision_lm.build import EYES, image_check
from exporters.vision_lm.records import ImageRecord, ImageTrial, session_of
from exporters.vision_lm.trial import fidelity_seen, golden_cosine, grid_of_patterns, image_trial
from nsedge.bundle.causal_lm import Fidelity, Variant
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import GOLDEN_PICTURES, GoldenPicture, ImageEncoder, VisionLm
from nsedge.errors import BundleInvalid
from nsedge.runtime.graph.image_encoders import PictureSession, open_image_encoder


@dataclass(frozen=True, kw_only=True)
class SightVerdict:
    """What was found of the encoders. told: by decoder, what follows pictures, measured anew where
    fp32 is at hand, else as recorded."""

    encoders: EncoderVerdict
    told: dict[str, Fidelity]


def verify_sight(
    bundle: Bundle[VisionLm], cache: Cache, *, overrides: Mapping[str, float]
) -> SightVerdict:
    """Check the encoders of `bundle`, whose files are right; nearness anew if the fp32 graphs that
    they came from are in `cache`."""
    manifest, digest = bundle.manifest, variant_digest(bundle)
    folders = cache.follow(EYES, digest), cache.follow(LINKS, digest)
    check = _Check(bundle)
    exact = None
    if folders[0] is not None and folders[1] is not None:
        exact = runner_of(folders[1]), session_of(folders[0], ImageRecord.read(folders[0]))
    checks, skipped = examined(
        manifest.components.image.variants, lambda each: check.encoder(each, exact)
    )
    told, _ = examined(manifest.variants, lambda each: (each.name, check.told(each, exact)))
    verdict = EncoderVerdict(
        name=manifest.name, checks=checks, skipped=skipped, overrides=dict(overrides)
    )
    return SightVerdict(encoders=verdict, told=dict(told))


Exact = tuple[Runner, PictureSession] | None


class _Check:
    """One bundle, looked at."""

    def __init__(self, bundle: Bundle[VisionLm]) -> None:
        self._bundle = bundle
        self._passages = fidelity_passages(reader_of(bundle))

    def encoder(self, encoder: ImageEncoder, exact: Exact) -> EncoderCheck:
        """An encoder: its golden pictures, and its nearness as recorded and as measured."""
        if encoder.fidelity is None:
            raise BundleInvalid(f"encoder {encoder.name} says nothing of its nearness to fp32")
        session, golden = self._session(encoder), self._golden()
        recorded = ImageTrial(
            fidelity=encoder.fidelity, golden=golden_cosine(session, golden), seen={}
        )
        check = image_check(encoder.name, encoder.scheme, recorded)
        if exact is None:
            return check
        found = image_trial(session, exact[1], golden=golden, told={})
        return replace(check, measured=found.fidelity)

    def told(self, variant: Variant, exact: Exact) -> Fidelity:
        """How near a decoder and its encoder are to fp32 together."""
        manifest = self._bundle.manifest
        encoder = manifest.image_encoder(variant)
        if exact is None:
            return encoder.seen[variant.name]
        runner = Runner(
            self._bundle.file(variant.graph),
            io=variant.io,
            kv=variant.kv,
            capacity=min(manifest.context_length, TEXT_ROOM),
            requires=variant.requires,
        )
        return fidelity_seen(
            exact,
            (runner, self._session(encoder)),
            self._passages,
            token_id=manifest.processors.prompt.token_id,
            grid=grid_of_patterns(manifest.processors.pictures),
            text_sha256=fidelity_text_sha256(),
        )

    def _session(self, encoder: ImageEncoder) -> PictureSession:
        manifest = self._bundle.manifest
        return open_image_encoder(
            self._bundle.file(encoder.graph),
            encoder,
            pictures=manifest.processors.pictures,
            hidden=manifest.hidden_size,
            threads=0,
        )

    def _golden(self) -> tuple[GoldenPicture, ...]:
        return self._bundle.golden(GOLDEN_PICTURES, GoldenPicture)
