"""From a diffusers folder to graphs, their figures, and a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporters.bundle.choosing import refuse_failures
from exporters.bundle.orders import VariantOrder, variants_named
from exporters.bundle.package import check_place, settle
from exporters.cache import Cache
from exporters.diffusion.package import DiffusionProduct, MadeDenoiser, package
from exporters.diffusion.records import DiffusionRecord, DiffusionTrial
from exporters.diffusion.stages import LIBRARIES, DiffusionStages
from exporters.errors import Refused
from exporters.model.diffusion import DiffusionShape, parameters_of, read_diffusion_shape
from exporters.model.route import library_versions
from exporters.model.source import Source
from exporters.quantise.schemes import Device, KvFormat
from nsedge.runtime.hosting.golden_images import LEAST_COSINE

DEFAULT_VARIANTS = "cpu-int8-b64"
LEAST_PSNR_DB = {"fp32": 60.0, "int8-b32": 25.0, "int8-b64": 25.0}
"""By scheme, the least that a variant's pictures must have to those of fp32; there is no other
scheme."""


@dataclass(frozen=True, kw_only=True)
class DiffusionOrder:
    """What to make: which model, in which variants."""

    source: Source
    variants: tuple[VariantOrder, ...] = variants_named(DEFAULT_VARIANTS)

    def check(self) -> DiffusionShape:
        """Refuse what does not go together, before any work; what the folder says.

        Raises:
            Refused: with the reason.
            ExportError: the source is incomplete.
        """
        shape = read_diffusion_shape(self.source.folder)
        parameters_of(self.source.folder, shape.parts)
        for variant in self.variants:
            check_variant(variant)
        return shape


@dataclass(frozen=True, kw_only=True)
class DiffusionReport:
    """What came of a bundle's making. `made` is False where the same bundle was there already."""

    bundle: Path
    made: bool
    bytes: int
    shape: DiffusionShape
    record: DiffusionRecord
    variants: tuple[MadeDenoiser, ...]


def export_diffusion(
    order: DiffusionOrder, out: Path, *, name: str, cache: Cache, replace: bool = False
) -> DiffusionReport:
    """Make the bundle `name` of `order` at `out`.

    A bundle of the same source is brought up to date; anything else there needs `replace`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: something else failed, `out` is taken, or a variant is too far from fp32.
    """
    shape = order.check()
    check_place(out, name, order.source.origin, replace=replace)
    stages = DiffusionStages(order.source, cache, shape)
    variants = tuple(_made(stages, wanted) for wanted in order.variants)
    refuse_failures(
        [(made.name, why) for made in variants for why in failures(made.scheme, made.trial)]
    )
    product = DiffusionProduct(
        source=order.source,
        shape=shape,
        parameters=parameters_of(order.source.folder, shape.parts),
        record=stages.record,
        reference=stages.folder,
        golden=stages.golden,
        libraries=library_versions(LIBRARIES),
        variants=variants,
    )
    made = package(product, out, name=name, replace=replace)
    return DiffusionReport(
        bundle=out,
        made=made,
        bytes=settle(out, cache, stages.folder),
        shape=shape,
        record=product.record,
        variants=variants,
    )


def check_variant(order: VariantOrder) -> None:
    """Refuse a variant that models of pictures do not have.

    Raises:
        Refused: with the reason.
    """
    if order.scheme.name not in LEAST_PSNR_DB:
        known = ", ".join(LEAST_PSNR_DB)
        raise Refused(f"--scheme {order.scheme.name}: models of pictures have {known}")
    if order.kv is not KvFormat.FLOAT32:
        raise Refused(f"--kv {order.kv.value}: a model of pictures keeps no keys and values")
    if order.device is not Device.CPU:
        raise Refused(f"--device {order.device.value}: models of pictures are made for the CPU")


def failures(scheme: str, trial: DiffusionTrial) -> list[str]:
    """Why a variant is too far from fp32; nothing where it is not."""
    least, found = LEAST_PSNR_DB[scheme], trial.fidelity.psnr_db
    reasons = []
    if not found >= least:
        reasons.append(f"its pictures are {found:.1f} dB from those of fp32; at least {least:g}")
    if not trial.golden >= LEAST_COSINE:
        reasons.append(
            f"golden samples have a cosine of {trial.golden:.4f}; at least {LEAST_COSINE:g}"
        )
    return reasons


def _made(stages: DiffusionStages, order: VariantOrder) -> MadeDenoiser:
    try:
        folder = stages.variant(order)
    except Refused as error:
        raise Refused(f"variant {order.name}: {error}") from error
    return MadeDenoiser(
        name=order.name,
        device=order.device.value,
        scheme=order.scheme.name,
        folder=folder,
        trial=stages.trial(order),
    )
