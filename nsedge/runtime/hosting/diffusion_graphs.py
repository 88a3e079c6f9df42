"""Which graphs of a model of pictures are run here, and what they can be expected to claim."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TypeVar

from nsedge.bundle.diffusion import DenoiserVariant, Diffusion, DiffusionComponents
from nsedge.bundle.fields import AnyVariant
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.graph.diffusion import DiffusionGraphs, DiffusionSession, LatentForm
from nsedge.runtime.hosting.variants import choose_variant
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.settings import EngineSettings

DiffusionBundle = Bundle[Diffusion]
V = TypeVar("V", bound=AnyVariant)


def open_graphs(
    bundle: DiffusionBundle, graphs: DiffusionGraphs, settings: EngineSettings
) -> DiffusionSession:
    """The graphs in sessions; raises what `open_session` does."""
    manifest = bundle.manifest
    return DiffusionSession(
        bundle.path, graphs, form_of(manifest), threads=settings.threads or usable_cores()
    )


def form_of(manifest: Diffusion) -> LatentForm:
    """How a model's latents lie."""
    return LatentForm(
        channels=manifest.latent_channels,
        factor=manifest.latent_factor,
        scaling=manifest.scaling,
        shift=manifest.shift,
    )


def wanted_graphs(bundle: DiffusionBundle, settings: EngineSettings) -> DiffusionGraphs:
    """The graphs that run here.

    Raises:
        DeviceUnavailable: where there are none.
    """
    wanted = settings.variants.get(bundle.name) or settings.variants.get(bundle.manifest.name)
    parts = bundle.manifest.components
    denoiser = choose_variant(parts.denoiser.variants, settings.device, bundle.name, wanted=wanted)
    return graphs_of(parts, denoiser)


def graphs_of(parts: DiffusionComponents, denoiser: DenoiserVariant) -> DiffusionGraphs:
    """The graphs that go with a denoiser."""
    return DiffusionGraphs(
        text_encoders=tuple(_beside(texts.variants, denoiser) for texts in parts.text_encoders),
        denoiser=denoiser,
        decoder=_beside(parts.decoder.variants, denoiser),
        encoder=None if parts.encoder is None else _beside(parts.encoder.variants, denoiser),
    )


def _beside(variants: tuple[V, ...], denoiser: AnyVariant) -> V:
    """The variant of the denoiser's name, else the first for its device, else the first."""
    named = [variant for variant in variants if variant.name == denoiser.name]
    fitting = [variant for variant in variants if variant.device == denoiser.device]
    return (*named, *fitting, *variants)[0]


def expected(bundle: DiffusionBundle, settings: EngineSettings) -> Amount:
    """What `bundle` can be expected to claim, before it was ever loaded: its files as they lie on
    disk, and as much again.

    Raises:
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    graphs = wanted_graphs(bundle, settings)
    folders = {PurePosixPath(name).parent for name in graphs.names}
    files = bundle.manifest.files.items()
    size = sum(entry.bytes for name, entry in files if PurePosixPath(name).parent in folders)
    return Amount(2 * size) if graphs.denoiser.device == "cpu" else Amount(0, 2 * size)
