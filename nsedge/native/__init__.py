"""Operators of our own for ONNX Runtime, in C++: built at install where a compiler is there.

`src/` holds the source. A graph that uses the domain needs the library; a bundle holds such a graph
beside one that does not (`Variant.requires`), so nothing depends on the library but speed.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "src"
DOMAIN = "nsedge"
REQUIREMENT = "nsedge-ops-5"
"""What a variant names that uses the operators of this version."""
CROSS_REQUIREMENT = "nsedge-ops-4"
"""The same where it uses those for an encoder's memory."""
WINDOW_REQUIREMENT = "nsedge-ops-6"
"""The same where it uses those for an encoder's window."""
KNOWN = frozenset({REQUIREMENT, CROSS_REQUIREMENT, WINDOW_REQUIREMENT, "nsedge-ops-3"})
"""Versions whose graphs these operators run."""
BLOCK_TOKENS = 16
"""Tokens of a block of CachedAttention's cache."""


def library() -> Path | None:
    """The built library, None where there is none."""
    here = Path(__file__).parent
    return next((p for s in EXTENSION_SUFFIXES if (p := here / f"_ops{s}").is_file()), None)


@functools.cache
def why_not() -> str | None:
    """Why the operators cannot be used here; None where they can."""
    path = library()
    if path is None:
        return "they were not built: there was no C++ compiler at install"
    try:
        loaded = ctypes.CDLL(str(path))
        supported = loaded.nsedge_supported()
    except (OSError, AttributeError) as error:
        return f"{path} cannot be loaded: {error}"
    if not supported:
        return "this processor has no AVX2, FMA or F16C"
    return (
        f"{path} was built from another source: `make` builds it anew" if _stale(loaded) else None
    )


def _stale(loaded: ctypes.CDLL) -> bool:
    """Whether the library is not of the source beside it. Only in a checkout do these part: what is
    installed was built from what came with it."""
    if not (Path(__file__).parents[2] / "setup.py").is_file():
        return False
    told = getattr(loaded, "nsedge_source", None)
    if told is None:  # built before libraries told it
        return True
    told.restype = ctypes.c_char_p
    return bool(told() != source_digest().encode())


def instructions() -> str:
    """The instructions that make products on this processor, such as "AVX-512 VNNI"; only where
    `why_not` is None."""
    call = ctypes.CDLL(str(library())).nsedge_instructions
    call.restype = ctypes.c_char_p
    return str(call().decode())


def missing(requires: tuple[str, ...]) -> str | None:
    """Why what a variant requires is not there; None where all of it is."""
    for name in requires:
        reason = why_not() if name in KNOWN else "this release does not know them"
        if reason is not None:
            return f"it needs the operators {name}, and {reason}"
    return None


def used_by(requires: tuple[str, ...]) -> bool:
    """Whether a variant that requires these uses the operators."""
    return not KNOWN.isdisjoint(requires)


def register(options: Any, requires: tuple[str, ...]) -> None:
    """Let a session of these ONNX Runtime options find the operators that a variant requires."""
    if used_by(requires):
        options.register_custom_ops_library(str(library()))


@contextmanager
def sharing(group: int) -> Iterator[None]:
    """Have the sessions that this thread opens meanwhile share their packed weights with others
    that were opened under the same `group`, from 1 on: those of one model's files."""
    with _set("nsedge_share", ctypes.c_size_t(group), ctypes.c_size_t(0)):
        yield


@contextmanager
def rehearsing() -> Iterator[None]:
    """Have the runs that this thread makes meanwhile take all the memory that they need, and
    products and attention compute nothing: what they give is zeros, the cache stays as it is."""
    with _set("nsedge_rehearse", ctypes.c_int(1), ctypes.c_int(0)):
        yield


@contextmanager
def pausing(pause: Callable[[], None]) -> Iterator[None]:
    """Have the runs that this thread makes meanwhile call `pause`, on this thread, where they may
    stop for a while: between two heads of attention within a window, and before other operators of
    an encoder. What it takes, the run takes longer; it may not raise."""
    kind = ctypes.CFUNCTYPE(None)
    with _set("nsedge_pause", kind(pause), kind()):
        yield


@contextmanager
def plainly() -> Iterator[None]:
    """Have products of the whole process use no instruction meanwhile that not every processor with
    AVX2 has: results are the same to the bit, and slower. Attention within a window is made in
    float then, which is nearer to what it should be than bfloat16."""
    with _set("nsedge_plain", ctypes.c_int(1), ctypes.c_int(0)):
        yield


@contextmanager
def _set(function: str, value: Any, otherwise: Any) -> Iterator[None]:
    """Call `function` of the library with `value`, and in the end with `otherwise`; nothing where
    the operators cannot be used."""
    path = None if why_not() is not None else library()
    if path is None:
        yield
        return
    call = getattr(ctypes.CDLL(str(path)), function)
    call(value)
    try:
        yield
    finally:
        call(otherwise)


def source_digest() -> str:
    """SHA-256 of the operators' source: what they compute depends on nothing else."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.iterdir()):
        if path.suffix in (".cpp", ".h"):
            digest.update(path.read_bytes())
    return digest.hexdigest()
