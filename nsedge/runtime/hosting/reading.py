"""Reading a model's files ahead of opening them: held to their hashes, with progress told, and from
end to end, which a disk likes better than page by page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from nsedge.errors import BundleInvalid

BLOCK_BYTES = 256 << 10
"""Small enough that what was read is hashed from the processor's cache."""


def read_ahead(files: Mapping[Path, str], told: Callable[[float], None]) -> None:
    """Bring `files`, each with its SHA-256, into the page cache; `told` hears the share, 0 to 1.

    Raises:
        BundleInvalid: naming the file that was altered, or cannot be read.
    """
    total, done = sum(map(_size, files)) or 1, 0
    block = memoryview(bytearray(BLOCK_BYTES))
    for path, wanted in files.items():
        digest = hashlib.sha256()
        try:
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(block):
                    digest.update(block[:count])
                    done += count
                    told(min(1.0, done / total))
        except OSError as error:
            raise BundleInvalid(f"{path}: {error.strerror}") from error
        if digest.hexdigest() != wanted:
            raise BundleInvalid(f"{path} was altered: its SHA-256 does not match")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BundleInvalid(f"{path}: {error.strerror}") from error
