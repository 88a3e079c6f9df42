"""Memory for keys and values: reserved at once, taken from the machine as it is written."""

from __future__ import annotations

import math
import mmap

import numpy as np
from numpy.typing import DTypeLike, NDArray


def reserve(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """A writable array of zeros whose pages are the kernel's until they are first written.

    NumPy asks for huge pages. A sequence of a few hundred tokens would then hold 2 MiB in every
    array it touches, mostly unwritten; small pages decode as fast.
    """
    wanted = np.dtype(dtype)
    size = max(1, math.prod(shape) * wanted.itemsize)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux
        block.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(block, wanted, math.prod(shape)).reshape(shape)
