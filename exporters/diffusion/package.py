"""The bundle of a model of pictures, of what its stages made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from exporters.bundle.package import GOLDEN_FILE, Contents, entries, provenance, write_bundle
from exporters.diffusion.records import (
    DECODER_FILE,
    DENOISER_FILE,
    ENCODER_FILE,
    TEXT_FILES,
    DiffusionRecord,
    DiffusionTrial,
)
from exporters.graph.records import DATA_SUFFIX
from exporters.model.diffusion import DiffusionShape
from exporters.model.source import LICENCE_FILE, Source
from nsedge.bundle.diffusion import (
    DecoderVariant,
    DenoiserVariant,
    Diffusion,
    DiffusionComponents,
    DiffusionProcessors,
    EncoderVariant,
    GoldenImage,
    TextEncoderVariant,
)
from nsedge.bundle.fields import FORMAT, FORMAT_VERSION, Variants

AUTOENCODER = "autoencoder"
"""The folder of graphs that all variants have."""
FP32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class MadeDenoiser:
    """The text encoders and the denoiser of one variant, in `folder`, and how near its pictures are
    to fp32's."""

    name: str
    device: str
    scheme: str
    folder: Path
    trial: DiffusionTrial


@dataclass(frozen=True, kw_only=True)
class DiffusionProduct:
    """What an export made. reference: the directory of the fp32 graphs."""

    source: Source
    shape: DiffusionShape
    parameters: int
    record: DiffusionRecord
    reference: Path
    golden: Sequence[GoldenImage]
    libraries: dict[str, str]
    variants: tuple[MadeDenoiser, ...]


def package(product: DiffusionProduct, out: Path, *, name: str, replace: bool) -> bool:
    """Write the bundle `name`; whether it was not there already.

    Raises:
        ExportError: something else is at `out` and `replace` is not set.
    """
    contents = _contents(product)
    return write_bundle(out, _manifest(product, contents, name), contents, replace=replace)


def _contents(product: DiffusionProduct) -> Contents:
    """Every file but the manifest."""
    golden = msgspec.json.encode(product.golden)
    contents: Contents = {GOLDEN_FILE: msgspec.json.format(golden, indent=1) + b"\n"}
    for reading in product.record.prompts:
        contents[reading.tokenizer] = product.reference / reading.tokenizer
    both: tuple[str, ...] = (DECODER_FILE, ENCODER_FILE)
    graphs = [(AUTOENCODER, product.reference, both)]
    own = (*TEXT_FILES[: len(product.record.text_ios)], DENOISER_FILE)
    graphs += [(made.name, made.folder, own) for made in product.variants]
    for inside, folder, files in graphs:
        for file in files:
            for written in (file, f"{file}{DATA_SUFFIX}"):
                contents[f"{inside}/{written}"] = folder / written
    if (path := product.source.folder / LICENCE_FILE).is_file():
        contents[LICENCE_FILE] = path
    return contents


def _manifest(product: DiffusionProduct, contents: Contents, name: str) -> Diffusion:
    shape, record = product.shape, product.record
    return Diffusion(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        name=name,
        golden={"imagine": GOLDEN_FILE},
        provenance=provenance(
            product.source,
            parameters=product.parameters,
            libraries=product.libraries,
            overrides={},
            architecture=product.shape.pipeline,
        ),
        files=entries(contents),
        components=_components(product),
        processors=DiffusionProcessors(prompts=record.prompts),
        latent_channels=shape.latent_channels,
        latent_factor=shape.latent_factor,
        size_step=shape.size_step,
        height=shape.height,
        width=shape.width,
        steps=shape.family.steps,
        guidance=shape.family.guidance,
        scaling=shape.scaling,
        shift=shape.shift,
        scheduler=shape.scheduler,
        empty_is_zero=shape.empty_is_zero,
        preview=record.preview,
    )


def _components(product: DiffusionProduct) -> DiffusionComponents:
    record = product.record
    texts = tuple(
        Variants(
            variants=tuple(
                TextEncoderVariant(
                    name=made.name,
                    device=made.device,
                    scheme=made.scheme,
                    graph=f"{made.name}/{file}",
                    io=io,
                )
                for made in product.variants
            )
        )
        for file, io in zip(TEXT_FILES, record.text_ios, strict=False)
    )
    denoisers = tuple(
        DenoiserVariant(
            name=made.name,
            device=made.device,
            scheme=made.scheme,
            graph=f"{made.name}/{DENOISER_FILE}",
            io=record.denoiser_io,
            fidelity=made.trial.fidelity,
        )
        for made in product.variants
    )
    name = f"cpu-{FP32}"
    decoder = DecoderVariant(
        name=name,
        device="cpu",
        scheme=FP32,
        graph=f"{AUTOENCODER}/{DECODER_FILE}",
        io=record.decoder_io,
    )
    encoder = EncoderVariant(
        name=name,
        device="cpu",
        scheme=FP32,
        graph=f"{AUTOENCODER}/{ENCODER_FILE}",
        io=record.encoder_io,
    )
    return DiffusionComponents(
        text_encoders=texts,
        denoiser=Variants(variants=denoisers),
        decoder=Variants(variants=(decoder,)),
        encoder=Variants(variants=(encoder,)),
    )
