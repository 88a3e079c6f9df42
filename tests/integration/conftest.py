"""The real starter bundles, from the user's cache: whatever was made before is not made again; and
small ones with random weights of the kinds of which there are no weights to be had."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from exporters.bundle.orders import variants_named
from exporters.bundle.starter import NAME, export_starter
from exporters.cache import Cache, cache_root
from exporters.caption.build import CaptionOrder, export_caption
from exporters.dual_encoder.build import DualOrder, export_dual_encoder
from exporters.encoder.starter import export_encoder_starter
from exporters.encoder.starter_folder import MASKED, NAMES, VECTORS, Starter
from exporters.model.source import Source
from exporters.model.vision_sources import vision_source
from exporters.progress import Progress
from exporters.speech.starter import STARTERS, export_speech_starter
from exporters.vision_lm.build import export_vision_lm
from nsedge.bundle.causal_lm import DecoderComponents, Variants
from nsedge.bundle.files import write_manifest
from nsedge.bundle.manifest import open_causal_lm
from tests.export.tiny_captioner import write_captioner_folder
from tests.export.tiny_dual_encoders import write_dual_folder
from tests.export.tiny_vision_lms import write_vision_folder

VARIANTS = "cpu-int8-b64,cpu-fp32"
UNSURE = {"kl": 0.2, "top1": 0.5, "golden": 0.3}
"""Random weights are unsure of everything."""


@pytest.fixture(scope="session")
def starter_bundle() -> Path:
    """The bundle's directory."""
    root = cache_root()
    cache = Cache(root, Progress(sys.__stderr__))
    return export_starter(cache, root / "tests" / NAME).bundle


@pytest.fixture(scope="session")
def embeddings_bundle() -> Path:
    """The directory of the bundle that makes vectors."""
    return encoder_of(VECTORS)


@pytest.fixture(scope="session")
def names() -> Path:
    """The directory of the bundle that finds names."""
    return encoder_of(NAMES)


@pytest.fixture(scope="session")
def masked() -> Path:
    """The directory of the bundle that fills masks."""
    return encoder_of(MASKED)


def encoder_of(starter: Starter) -> Path:
    """The directory of an encoder's bundle."""
    root = cache_root()
    cache = Cache(root, Progress(sys.__stderr__))
    return export_encoder_starter(cache, root / "tests" / starter.name, starter=starter).bundle


@pytest.fixture(scope="session")
def standard_bundle(starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter as a machine sees it on which the daemon's own operators were not built."""
    manifest = open_causal_lm(starter_bundle).manifest
    folder = tmp_path_factory.mktemp("standard") / NAME
    for name in manifest.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(starter_bundle / name)
    variants = tuple(variant for variant in manifest.variants if not variant.requires)
    components = DecoderComponents(decoder=Variants(variants=variants))
    write_manifest(folder, msgspec.structs.replace(manifest, components=components))
    return folder


@pytest.fixture(scope="session")
def speech_bundle() -> Path:
    """The directory of the bundle of Whisper tiny.en."""
    root, starter = cache_root(), STARTERS["tiny.en"]
    cache = Cache(root, Progress(sys.__stderr__))
    return export_speech_starter(starter, cache, root / "tests" / starter.name).bundle


@pytest.fixture(scope="session")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the bundle of a captioner with random weights, which may write much."""
    place = tmp_path_factory.mktemp("captioner")
    folder = write_captioner_folder(place / "source", n_positions=512)
    source = Source(folder=folder, origin="tiny-captioner")
    order = CaptionOrder(source=source, variants=variants_named(VARIANTS))
    name, cache = "tiny-captioner", Cache(place / "cache", Progress(None))
    return export_caption(order, place / name, name=name, cache=cache, overrides=UNSURE).bundle


@pytest.fixture(scope="session")
def dual_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the bundle of a CLIP with random weights and pictures of the usual size."""
    place = tmp_path_factory.mktemp("dual-encoder")
    source = Source(folder=write_dual_folder(place / "source", side=224), origin="tiny-clip")
    order = DualOrder(source=source, variants=variants_named(VARIANTS))
    name, cache = "tiny-clip", Cache(place / "cache", Progress(None))
    return export_dual_encoder(order, place / name, name=name, cache=cache).bundle


@pytest.fixture(scope="session")
def vision_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the bundle of a LLaVA with random weights."""
    place = tmp_path_factory.mktemp("vision-lm")
    folder = write_vision_folder(place / "source")
    name, cache = "tiny-llava", Cache(place / "cache", Progress(None))
    export_vision_lm(
        vision_source(Source(folder=folder, origin=name)),
        place / name,
        variants=variants_named("cpu-int8"),
        context=512,
        name=name,
        cache=cache,
        overrides=UNSURE,
    )
    return place / name
