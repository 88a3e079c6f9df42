"""Check a finished bundle of a model of pictures: its files and its golden samples."""

from __future__ import annotations

from dataclasses import dataclass

from exporters.diffusion.build import LEAST_PSNR_DB
from nsedge.bundle.diffusion import Diffusion, DiffusionComponents, GoldenImage, ImageFidelity
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.hosting.diffusion_graphs import graphs_of, open_graphs
from nsedge.runtime.hosting.golden_images import LEAST_COSINE, cosines
from nsedge.runtime.settings import EngineSettings


@dataclass(frozen=True, kw_only=True)
class DiffusionCheck:
    """What was found of a variant: the least cosine of golden samples, and what was recorded when
    it was made."""

    variant: str
    golden: float
    recorded: ImageFidelity | None
    failures: tuple[str, ...]


def verify_diffusion(bundle: Bundle[Diffusion]) -> list[DiffusionCheck]:
    """Check `bundle`.

    Raises:
        BundleInvalid: a file is missing, cut short or altered; the message names it.
    """
    bundle.verify_hashes()
    samples = bundle.golden("imagine", GoldenImage)
    return [
        _checked(bundle, one.name, samples) for one in bundle.manifest.components.denoiser.variants
    ]


def _checked(
    bundle: Bundle[Diffusion], name: str, samples: tuple[GoldenImage, ...]
) -> DiffusionCheck:
    parts: DiffusionComponents = bundle.manifest.components
    denoiser = {one.name: one for one in parts.denoiser.variants}[name]
    session = open_graphs(bundle, graphs_of(parts, denoiser), EngineSettings())
    least = min(cosines(session, samples))
    recorded = denoiser.fidelity
    failures = []
    if not least >= LEAST_COSINE:
        failures.append(f"golden samples have a cosine of {least:.4f}; at least {LEAST_COSINE:g}")
    limit = LEAST_PSNR_DB.get(denoiser.scheme)
    if recorded is not None and limit is not None and not recorded.psnr_db >= limit:
        failures.append(f"recorded with {recorded.psnr_db:.1f} dB to fp32; at least {limit:g}")
    return DiffusionCheck(variant=name, golden=least, recorded=recorded, failures=tuple(failures))
