"""Versions of a bundle, kept side by side: the directory NAME@VERSION is served as NAME.VERSION.

VERSION is the beginning of the manifest's SHA-256, and the manifest names the hash of every other
file: so a version is what it says it is, and the same bundle is the same version everywhere.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from nsedge.errors import BundleInvalid

MARK = "@"
"""In no bundle's name, so that a directory with it can be nothing else."""
DIGITS = 12
"""48 bits: among a thousand versions of one name, two alike are one chance in 500 million."""

_FOLDER = re.compile(rf"(?P<name>[^{MARK}]+){MARK}(?P<version>[0-9a-f]{{{DIGITS}}})")


def version_of(manifest: bytes) -> str:
    """The version of the bundle whose manifest has this content."""
    return hashlib.sha256(manifest).hexdigest()[:DIGITS]


def folder_name(name: str, version: str) -> str:
    """The directory that a version is kept in."""
    return f"{name}{MARK}{version}"


def versioned_name(name: str, version: str) -> str:
    """What clients call a version."""
    return f"{name}.{version}"


def is_version(path: Path) -> bool:
    """Whether the directory is meant to hold a version."""
    return MARK in path.name


def served_name(path: Path, name: str, manifest: bytes) -> str:
    """What clients call the bundle `name` at `path`, whose manifest has this content.

    Raises:
        BundleInvalid: the directory is another version's.
    """
    if not is_version(path):
        return name
    version = version_of(manifest)
    if path.name != folder_name(name, version):
        raise BundleInvalid(
            f"{path} holds {folder_name(name, version)}: its manifest was altered, or the directory"
            " renamed; deploy the bundle anew"
        )
    return versioned_name(name, version)


def name_of(path: Path) -> str:
    """What the bundle at `path` is called while its manifest cannot be read."""
    found = _FOLDER.fullmatch(path.name)
    return path.name if found is None else versioned_name(found["name"], found["version"])
