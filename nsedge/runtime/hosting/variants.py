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


def choose_variant(variants: Sequence[V], device: Device, name: str) -> V:
    """The first variant for `device` that runs here; never one for another device instead.

    Raises:
        DeviceUnavailable: saying what the bundle `name` has and what was wanted.
    """
    wanted = [v for v in variants if device is Device.AUTO or v.device == device]
    for variant in wanted:
        if not can_run(variant.device):
            continue
        lacking = native.missing(variant.requires)
        if lacking is None:
            return variant
        log.warning("%s: variant %s is passed over: %s", name, variant.name, lacking)
    has = ", ".join(f"{v.name} ({v.device})" for v in variants)
    raise DeviceUnavailable(
        f"no variant of {name} runs on device {device.value!r} here; the bundle has {has}"
    )
