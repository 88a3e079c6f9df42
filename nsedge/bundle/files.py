"""Manifests and the files that they name: read, checked, hashed, written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nsedge.bundle.fields import FileEntry, Strict
from nsedge.errors import BundleInvalid
from nsedge.printable import escaped

MANIFEST_FILE = "manifest.json"


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of manifest, and the version of it that this release reads."""

    name: str
    version: int


def read_manifest(path: Path, known: Format, kind: Any) -> tuple[Any, bytes]:
    """The manifest at `path`, a `kind` or one of a union, and its file's content.

    Raises:
        BundleInvalid: it cannot be read, is of another version, or a field is wrong.
    """
    raw = read_file(path)
    head = _head(raw, path)
    if head.format == known.name and head.format_version != known.version:
        raise BundleInvalid(
            f"{path}: format version {head.format_version}; this release reads {known.version}"
        )
    return decode(raw, kind, path), raw


def version_of(path: Path) -> int:
    """The format version that the manifest at `path` says it is of.

    Raises:
        BundleInvalid: it cannot be read.
    """
    return _head(read_file(path), path).format_version


def format_of(path: Path) -> str:
    """What the manifest in the directory `path` says that it is of.

    Raises:
        BundleInvalid: it cannot be read.
    """
    file = path / MANIFEST_FILE
    return _head(read_file(file), file).format


def decode(raw: bytes, kind: Any, path: Path) -> Any:
    """The JSON of the file at `path` as a `kind`.

    Raises:
        BundleInvalid: it is none, or nested too deep.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleInvalid(escaped(f"{path}: {error}")) from error


def check_files(path: Path, files: Mapping[str, FileEntry], named: Iterable[str]) -> None:
    """Whether every one of `files` is in the directory `path` at its size, and all `named` are
    among them.

    Raises:
        BundleInvalid: naming the file at fault.
    """
    for name, entry in files.items():
        _check_size(path / name, entry)
    for name in named:
        if name not in files:
            raise BundleInvalid(f"{path / MANIFEST_FILE}: {name} is used but not under files")


def verify_hashes(path: Path, files: Mapping[str, FileEntry]) -> None:
    """Read every one of `files` in the directory `path` and compare its SHA-256.

    Raises:
        BundleInvalid: naming the file that was altered.
    """
    for name, entry in files.items():
        _check_size(path / name, entry)
        if sha256_of(path / name) != entry.sha256:
            raise BundleInvalid(f"{path / name} was altered: its SHA-256 does not match")


def _check_size(path: Path, entry: FileEntry) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BundleInvalid(f"{path}: {error.strerror}") from error
    if size != entry.bytes:
        raise BundleInvalid(f"{path} has {size} bytes, the manifest says {entry.bytes}")


def read_file(path: Path) -> bytes:
    """A file of a bundle, whole.

    Raises:
        BundleInvalid: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleInvalid(f"{path}: {error.strerror}") from error


class _Head(msgspec.Struct):
    format: str
    format_version: int


def _head(raw: bytes, path: Path) -> _Head:
    head: _Head = decode(raw, _Head, path)
    return head


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        BundleInvalid: where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleInvalid(f"{path}: {error.strerror}") from error


def write_manifest(path: Path, manifest: Strict) -> None:
    """Write `manifest` to the directory `path`, indented, with a final newline."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (path / MANIFEST_FILE).write_bytes(text + b"\n")


def find_bundles(folder: Path) -> list[Path]:
    """The directories below `folder` that hold a manifest, by name; hidden ones are half made."""
    if not folder.is_dir():
        return []
    found = (path.parent for path in folder.glob(f"*/{MANIFEST_FILE}"))
    return sorted(path for path in found if not path.name.startswith("."))
