"""The forms that encoders' weights are kept in, and how near to fp32 they are promised to be."""

from __future__ import annotations

from dataclasses import replace

from exporters.bundle.orders import VariantOrder, variants_named
from exporters.errors import Refused
from exporters.quantise.schemes import Device, KvFormat

DEFAULT_VARIANTS = "cpu-w8a8,cpu-fp32"
NEARER_VARIANT = "cpu-int8-b64"
"""Taken where nobody named a scheme, if the first of the default ones is too far from fp32."""
LEAST_COSINES = {"fp32": 0.9999, "int8-b32": 0.99, "int8-b64": 0.99, "w8a8": 0.99}
"""By scheme, the least cosine of a text's vector to that of fp32; there is no other scheme."""
SCORE_LIMITS = {
    "fp32": (0.9999, 0.001),
    "int8-b32": (0.95, 0.02),
    "int8-b64": (0.95, 0.02),
    "w8a8": (0.9, 0.04),
}
"""By scheme, the least share of best labels that are those of fp32, and the mean error of
scores."""


def default_variants() -> tuple[VariantOrder, ...]:
    """Those of a bundle where none are named; a daemon takes the first that runs."""
    first, *others = variants_named(DEFAULT_VARIANTS)
    return replace(first, instead=variants_named(NEARER_VARIANT)), *others


def check_variant(order: VariantOrder) -> None:
    """Refuse a variant that encoders do not have.

    Raises:
        Refused: with the reason.
    """
    if order.scheme.name not in LEAST_COSINES:
        known = ", ".join(LEAST_COSINES)
        raise Refused(f"--scheme {order.scheme.name} is for text models; encoders have {known}")
    if order.kv is not KvFormat.FLOAT32:
        raise Refused(f"--kv {order.kv.value}: an encoder keeps no keys and values")
    if order.device is not Device.CPU:
        raise Refused(f"--device {order.device.value}: encoders are exported for the CPU")
