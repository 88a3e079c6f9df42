"""Reading a model's files ahead of opening them, so that progress can be told and a disk is read
from end to end instead of page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from nsedge.errors import BundleInvalid

BLOCK_BYTES = 4 << 20


def read_ahead(files: Iterable[Path], told: Callable[[float], None]) -> None:
    """Bring `files` into the page cache; `told` hears the share done, 0 to 1.

    Raises:
        BundleInvalid: naming the file that cannot be read.
    """
    sizes = {path: _size(path) for path in files}
    total, done = sum(sizes.values()) or 1, 0
    block = memoryview(bytearray(BLOCK_BYTES))
    for path in sizes:
        try:
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(block):
                    done += count
                    told(min(1.0, done / total))
        except OSError as error:
            raise BundleInvalid(f"{path}: {error.strerror}") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BundleInvalid(f"{path}: {error.strerror}") from error
