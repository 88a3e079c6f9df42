"""Which variant of a component runs here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeVar

from nsedge import native
from nsedge.bundle.fields import AnyVariant
from nsedge.errors import DeviceUnavailable
from nsedge.runtime.graph.session import can_run
from nsedge.runtime.settings import Device

log = logging.getLogger(__name__)


V = TypeVar("V", bound=AnyVariant)


def choose_variant(
    variants: Sequence[V], device: Device, name: str, *, wanted: str | None = None
) -> V:
    """The first variant for `device` that runs here, or the one called `wanted`; never another, nor
    one for another device, instead.

    Raises:
        DeviceUnavailable: saying what the bundle `name` has and what was wanted.
    """
    fitting = [
        v
        for v in variants
        if (device is Device.AUTO or v.device == device) and wanted in (None, v.name)
    ]
    for variant in fitting:
        if not can_run(variant.device):
            continue
        lacking = native.missing(variant.requires)
        if lacking is None:
            return variant
        log.warning("%s: variant %s is passed over: %s", name, variant.name, lacking)
    has = ", ".join(f"{v.name} ({v.device})" for v in variants)
    which = "no variant" if wanted is None else f"no variant {wanted!r} (models.variants)"
    raise DeviceUnavailable(
        f"{which} of {name} runs on device {device.value!r} here; the bundle has {has}"
    )
