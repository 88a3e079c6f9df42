"""Check the encoders of a finished bundle that sees, or hears: their golden patterns, how near they
are to fp32, and how near what the decoders say after pictures and sounds is."""

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
from exporters.vision_lm.build import EARS, EYES, PICTURES, SOUNDS, image_check
from exporters.vision_lm.records import (
    ImageRecord,
    ImageTrial,
    SoundRecord,
    session_of,
    sound_session,
)
from exporters.vision_lm.trial import (
    OfPictures,
    Patterned,
    fidelity_seen,
    golden_cosine,
    grid_of_patterns,
    image_trial,
)
from nsedge.bundle.causal_lm import Fidelity, Variant
from nsedge.bundle.hearing import GOLDEN_SOUNDS, SoundEncoder
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import GOLDEN_PICTURES, GoldenPicture, ImageEncoder, VisionLm
from nsedge.errors import BundleInvalid
from nsedge.runtime.graph.image_encoders import open_image_encoder
from nsedge.runtime.graph.sound_encoder import SoundEncoderSession

AnyEncoder = ImageEncoder | SoundEncoder


@dataclass(frozen=True, kw_only=True)
class SightVerdict:
    """What was found of the encoders. told: by decoder, what follows pictures, measured anew where
    fp32 is at hand, else as recorded; heard: the same of sounds, where the model hears."""

    encoders: EncoderVerdict
    told: dict[str, Fidelity]
    heard: dict[str, Fidelity]


def verify_sight(
    bundle: Bundle[VisionLm], cache: Cache, *, overrides: Mapping[str, float]
) -> SightVerdict:
    """Check the encoders of `bundle`, whose files are right; nearness anew if the fp32 graphs that
    they came from are in `cache`."""
    manifest, digest = bundle.manifest, variant_digest(bundle)
    eyes, ears, text = (cache.follow(link, digest) for link in (EYES, EARS, LINKS))
    seeing = _Check(bundle, PICTURES)
    if eyes is not None and text is not None:
        seeing.exact = (
            runner_of(text),
            OfPictures(session_of(eyes, ImageRecord.read(eyes))),
        )
    checks, skipped = examined(manifest.components.image.variants, seeing.encoder)
    told, _ = examined(manifest.variants, lambda one: (one.name, seeing.told(one)))
    heard: tuple[tuple[str, Fidelity], ...] = ()
    if manifest.hearing is not None:
        hearing = _Check(bundle, SOUNDS)
        if ears is not None and text is not None:
            hearing.exact = runner_of(text), sound_session(ears, SoundRecord.read(ears))
        more, _ = examined(manifest.hearing.encoder.variants, hearing.encoder)
        heard, _ = examined(manifest.variants, lambda one: (one.name, hearing.told(one)))
        checks = (*checks, *more)
    verdict = EncoderVerdict(
        name=manifest.name, checks=checks, skipped=skipped, overrides=dict(overrides)
    )
    return SightVerdict(encoders=verdict, told=dict(told), heard=dict(heard))


class _Check:
    """The encoders of one bundle, looked at: of pictures, or of sounds."""

    def __init__(self, bundle: Bundle[VisionLm], of: str) -> None:
        self._bundle = bundle
        self._of = of
        self._passages = fidelity_passages(reader_of(bundle))
        self.exact: tuple[Runner, Patterned] | None = None
        """The fp32 graphs, where they are at hand."""

    def encoder(self, encoder: AnyEncoder) -> EncoderCheck:
        """An encoder: its golden patterns, and its nearness as recorded and as measured."""
        if encoder.fidelity is None:
            raise BundleInvalid(f"encoder {encoder.name} says nothing of its nearness to fp32")
        session, golden = self._session(encoder), self._golden()
        recorded = ImageTrial(
            fidelity=encoder.fidelity, golden=golden_cosine(session, golden), seen={}
        )
        check = image_check(encoder.name, encoder.scheme, recorded, of=self._of)
        if self.exact is None:
            return check
        found = image_trial(session, self.exact[1], golden=golden, told={})
        return replace(check, measured=found.fidelity)

    def told(self, variant: Variant) -> Fidelity:
        """How near a decoder and its encoder are to fp32 together."""
        manifest = self._bundle.manifest
        encoder = self._beside(variant)
        if self.exact is None:
            return encoder.seen[variant.name]
        runner = Runner(
            self._bundle.file(variant.graph),
            io=variant.io,
            kv=variant.kv,
            capacity=min(manifest.context_length, TEXT_ROOM),
            requires=variant.requires,
        )
        told = manifest.processors
        token_id, grid = told.prompt.token_id, grid_of_patterns(told.pictures)
        if manifest.hearing is not None and self._of == SOUNDS:
            token_id, grid = manifest.hearing.prompt.token_id, None
        return fidelity_seen(
            self.exact,
            (runner, self._session(encoder)),
            self._passages,
            token_id=token_id,
            grid=grid,
            text_sha256=fidelity_text_sha256(),
        )

    def _beside(self, variant: Variant) -> AnyEncoder:
        manifest = self._bundle.manifest
        sound = manifest.sound_encoder(variant) if self._of == SOUNDS else None
        return manifest.image_encoder(variant) if sound is None else sound

    def _session(self, encoder: AnyEncoder) -> Patterned:
        manifest, graph = self._bundle.manifest, self._bundle.file(encoder.graph)
        hidden = manifest.hidden_size
        if isinstance(encoder, SoundEncoder):
            if manifest.hearing is None:
                raise BundleInvalid(f"{self._bundle.path} has an encoder of sound, and hears none")
            features = manifest.hearing.features
            return SoundEncoderSession(graph, encoder, told=features, hidden=hidden, threads=0)
        pictures = manifest.processors.pictures
        return OfPictures(
            open_image_encoder(graph, encoder, pictures=pictures, hidden=hidden, threads=0)
        )

    def _golden(self) -> tuple[GoldenPicture, ...]:
        task = GOLDEN_SOUNDS if self._of == SOUNDS else GOLDEN_PICTURES
        return self._bundle.golden(task, GoldenPicture)
