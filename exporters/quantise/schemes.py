"""The ways weights can be kept, as a table."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from exporters.errors import ExportError
from exporters.measure.promise import Promise
from nsedge.bundle.causal_lm import Variant


class KvFormat(enum.StrEnum):
    """What the key and value cache holds, whatever the weights' scheme."""

    FLOAT32 = "float32"
    INT8 = "int8"


class Device(enum.StrEnum):
    """What a graph is made for: a GPU computes in float16."""

    CPU = "cpu"
    CUDA = "cuda"


class Method(enum.Enum):
    """How weights are turned into integers."""

    BLOCKS = "each block by itself"
    ROTATED = "whole rows and channels, after a rotation"
    MIXED = "4 bits where they harm least, 8 elsewhere, within a budget"
    EXACT = "the 4-bit blocks that the source was made of"
    OWN = "the blocks that the source itself keeps"


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Bits and block of the layers' weights; the embedding and the head have their own.

    None is fp32, block 0 a whole channel. A block shares one fp32 scale; 4-bit blocks have a zero
    point too. A lossy scheme promises nothing.
    """

    name: str
    about: str
    bits: int | None
    block: int
    table_bits: int | None
    table_block: int
    promise: Promise | None
    method: Method = Method.BLOCKS
    budget: float = 0.0
    """Mean KL to fp32 in nats, over calibration texts, that a mixture may cost."""

    @property
    def runs_on_gpu(self) -> bool:
        """Whether a GPU has kernels for it: blocks, or no integers at all."""
        return self.method is Method.BLOCKS


_TABLE = (
    Scheme(
        name="int8-b64",
        about="8-bit, blocks of 64: the default; hardly to be told from fp32",
        bits=8,
        block=64,
        table_bits=8,
        table_block=64,
        promise=Promise(kl=0.010, top1=0.93),
    ),
    Scheme(
        name="int8-b32",
        about="8-bit, blocks of 32: nearer to fp32, 6 % larger",
        bits=8,
        block=32,
        table_bits=8,
        table_block=32,
        promise=Promise(kl=0.010, top1=0.93),
    ),
    Scheme(
        name="w8a8",
        about="8-bit, rotated, a scale a channel and a row: fastest at many rows and in prefill",
        bits=8,
        block=0,
        table_bits=8,
        table_block=64,
        promise=Promise(kl=0.010, top1=0.93),
        method=Method.ROTATED,
    ),
    Scheme(
        name="x4",
        about="the source's own 4-bit blocks, exactly: for models from a Q4_0 or Q4_1 GGUF",
        bits=4,
        block=32,
        table_bits=8,
        table_block=32,
        promise=Promise(kl=0.010, top1=0.93),
        method=Method.EXACT,
    ),
    Scheme(
        name="gguf",
        about="the file's own blocks of 4, 5, 6 or 8 bits: for GGUF files",
        bits=8,
        block=32,
        table_bits=8,
        table_block=32,
        promise=Promise(kl=0.010, top1=0.93),
        method=Method.OWN,
    ),
    Scheme(
        name="mixed-4-8",
        about="4-bit where it harms least, else 8-bit, blocks of 32, within 0.02 nats: smaller",
        bits=4,
        block=32,
        table_bits=8,
        table_block=32,
        promise=Promise(kl=0.030, top1=0.89),
        method=Method.MIXED,
        budget=0.020,
    ),
    Scheme(
        name="int4-b32",
        about="4-bit, blocks of 32, 8-bit embedding and head: lossy, badly so in small models",
        bits=4,
        block=32,
        table_bits=8,
        table_block=32,
        promise=None,
    ),
    Scheme(
        name="fp32",
        about="as trained: the reference, large and slow",
        bits=None,
        block=0,
        table_bits=None,
        table_block=0,
        promise=Promise(kl=1e-6, top1=1.0),
    ),
)
SCHEMES = {scheme.name: scheme for scheme in _TABLE}
DEFAULT_SCHEME = "int8-b64"
STARTER_SCHEME = "x4"
"""The starter comes from a Q4_1 GGUF, whose 4-bit weights are kept as they are."""
REFERENCE_SCHEME = "fp32"
BETTER = {
    "x4": ("int8-b32", REFERENCE_SCHEME),
    "gguf": ("int8-b32", REFERENCE_SCHEME),
    "int8-b64": ("int8-b32", REFERENCE_SCHEME),
    "int8-b32": (REFERENCE_SCHEME,),
}
"""What is taken, where nobody named a scheme, if the first of them is too far from fp32."""


ROUNDED_KL = 0.003
"""What an int8 cache, or float16 throughout, may add to a scheme's own distance from fp32, in nats;
an int8 cache adds 0.001 to the starter."""
ROUNDED_TOP1 = 0.02


def promise_of(variant: Variant) -> Promise | None:
    """What is promised of a variant: its scheme's promise, and room for how else it rounds."""
    promise = scheme_of(variant.scheme).promise
    if promise is None or (variant.kv.scales is None and variant.device == Device.CPU):
        return promise
    return Promise(kl=promise.kl + ROUNDED_KL, top1=promise.top1 - ROUNDED_TOP1)


def scheme_of(name: str) -> Scheme:
    """The scheme called `name`.

    Raises:
        ExportError: there is none.
    """
    try:
        return SCHEMES[name]
    except KeyError:
        raise ExportError(f"no scheme {name}; there are {', '.join(SCHEMES)}") from None
