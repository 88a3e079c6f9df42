"""What is asked for: a model, and in which variants."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from exporters.errors import ExportError, Refused
from exporters.model.route import Route
from exporters.model.source import Source
from exporters.quantise.schemes import (
    BETTER,
    REFERENCE_SCHEME,
    SCHEMES,
    Device,
    KvFormat,
    Method,
    Scheme,
)
from exporters.trace.route import TRACED

MAX_CONTEXT = 32768
"""Longest context that a graph's rotary tables hold, unless asked otherwise."""
KV_SUFFIX = "-kv8"
HALF_SUFFIX = "-fp16"
SHORT = {
    Device.CPU: {"int8": "int8-b64", "int4": "int4-b32", "mixed": "mixed-4-8"},
    Device.CUDA: {"fp16": REFERENCE_SCHEME, "int8": "int8-b32", "int4": "int4-b32"},
}
"""Names people use for a scheme on a device; every scheme's own name is known, too."""


@dataclass(frozen=True, kw_only=True)
class VariantOrder:
    """A graph to make: its name in the bundle, and how weights and cache are kept for a device.

    `instead` are the orders, the nearest to it first, that may take its place where it is too far
    from fp32, or does not fit the model.
    """

    name: str
    scheme: Scheme
    kv: KvFormat = KvFormat.FLOAT32
    device: Device = Device.CPU
    instead: tuple[VariantOrder, ...] = ()

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            Refused: with the reason.
        """
        if self.scheme.method is Method.ROTATED and self.kv is KvFormat.INT8:
            raise Refused(
                f"--scheme {self.scheme.name} turns the values that --kv int8 has scales for;"
                " choose one of them"
            )
        if self.device is Device.CUDA and not self.scheme.runs_on_gpu:
            raise Refused(f"--scheme {self.scheme.name} is for the CPU; --device cuda takes blocks")
        if self.device is Device.CUDA and self.kv is KvFormat.INT8:
            raise Refused("--device cuda keeps its cache in float16; --kv int8 is for the CPU")

    @property
    def is_reference(self) -> bool:
        """Whether the fp32 graph itself is wanted."""
        fp32 = self.scheme.name == REFERENCE_SCHEME and self.kv is KvFormat.FLOAT32
        return fp32 and self.device is Device.CPU


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to make: which model, in which variants, up to which context."""

    source: Source
    variants: tuple[VariantOrder, ...]
    max_context: int = MAX_CONTEXT
    route: Route = TRACED

    def check(self) -> None:
        """Refuse what does not go together, before any work.

        Raises:
            Refused: with the reason.
            ExportError: the source is incomplete.
        """
        self.source.check()
        for variant in self.variants:
            variant.check()
            if variant.scheme.method is Method.OWN and not self.source.keeps_blocks:
                raise Refused(
                    f"--scheme {variant.scheme.name} is for GGUF files of quantised types"
                    f" (import-gguf); {self.source.origin} has no blocks of its own"
                )


def one_variant(scheme: Scheme, kv: KvFormat, device: Device) -> VariantOrder:
    """The variant of a scheme, named by device, scheme, and how its cache is kept."""
    half = HALF_SUFFIX if device is Device.CUDA else ""
    suffix = KV_SUFFIX if kv is KvFormat.INT8 else half
    name = f"{device}-{scheme.name}{suffix}"
    return VariantOrder(name=name, scheme=scheme, kv=kv, device=device)


def usual_variant(scheme: Scheme, kv: KvFormat, device: Device) -> VariantOrder:
    """That of a scheme that nobody named: a better scheme's may take its place."""
    first = one_variant(scheme, kv, device)
    better = (SCHEMES[name] for name in BETTER.get(scheme.name, ()))
    return replace(first, instead=tuple(one_variant(each, kv, device) for each in better))


def variants_named(names: str) -> tuple[VariantOrder, ...]:
    """The variants of a list with commas, a GPU's first, else in the order of the list.

    A daemon takes the first that runs where it is.

    Raises:
        ExportError: a name is not known, or comes twice.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    twice = [name for name, count in Counter(wanted).items() if count > 1]
    if not wanted:
        raise ExportError("--variants names nothing")
    if twice:
        raise ExportError(f"--variants names {twice[0]} twice")
    orders = [_named(name) for name in wanted]
    return tuple(sorted(orders, key=lambda order: order.device is not Device.CUDA))


def _named(name: str) -> VariantOrder:
    device_name, _, rest = name.partition("-")
    kv = KvFormat.INT8 if rest.endswith(KV_SUFFIX) else KvFormat.FLOAT32
    scheme_name = rest.removesuffix(KV_SUFFIX)
    known = {device.value: device for device in Device}
    if (device := known.get(device_name)) is None:
        raise ExportError(_unknown(name))
    scheme = SCHEMES.get(SHORT[device].get(scheme_name, scheme_name))
    in_float32 = device is Device.CUDA and scheme_name == REFERENCE_SCHEME
    if scheme is None or in_float32:
        raise ExportError(_unknown(name))
    order = VariantOrder(name=name, scheme=scheme, kv=kv, device=device)
    try:
        order.check()
    except Refused as error:
        raise Refused(f"variant {name}: {error}") from error
    return order


def _unknown(name: str) -> str:
    schemes = [n for n, scheme in SCHEMES.items() if scheme.runs_on_gpu and n != REFERENCE_SCHEME]
    cpu = ", ".join(f"cpu-{n}" for n in (*SHORT[Device.CPU], *SCHEMES))
    cuda = ", ".join(f"cuda-{n}" for n in (*SHORT[Device.CUDA], *schemes))
    return f"no variant {name}; there are {cpu} (each with -kv8 for an int8 cache) and {cuda}"
