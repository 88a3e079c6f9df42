"""An adapter: a LoRA packaged as an add-on to a base bundle, in a directory of its own.

    NAME/
      manifest.json      this module's `AdapterManifest`; names and hashes every other file
      adapter.npz        the two matrices of every module that it changes
      VARIANT.onnx       the base's graph for that variant, with inputs for adapters

A graph holds no weights: it names those of the base's own file. docs/bundle.md tells the fields.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from nsedge.bundle.causal_lm import text_tasks
from nsedge.bundle.fields import FileEntry, Line, Name, Positive, RelativePath, Sha256, Strict
from nsedge.bundle.files import (
    MANIFEST_FILE,
    Format,
    check_files,
    format_of,
    read_manifest,
    verify_hashes,
)
from nsedge.bundle.manifest import AnyBundle, Bundle, TextBundle
from nsedge.bundle.sites import Site
from nsedge.errors import BundleInvalid

ADAPTER_FORMAT = Format(name="nsedge-adapter", version=1)
Matrices = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Of an adapter, by module."""
SEPARATOR = ":"
"""Between a base's name and an adapter's, as clients ask for them."""

A_INPUT = "adapter.{site}.a"
"""Graph input: float32 [R, input width], the first matrices of all adapters, row by row."""
B_INPUT = "adapter.{site}.b"
"""Graph input: float32 [R, output width], the second ones, transposed and scaled by alpha."""
MASK_INPUT = "adapter.{role}.mask"
"""Graph input: float32 [B, Q, R], 1 where a token goes through that row of the matrices, else 0."""


class Form(Strict, frozen=True, kw_only=True):
    """The graph that takes the place of a base's variant, and the weights it needs there."""

    variant: Name
    graph: RelativePath
    weights: dict[RelativePath, Sha256]
    """The base's files that the graph reads."""


class AdapterProvenance(Strict, frozen=True, kw_only=True):
    """Where an adapter came from."""

    source: Line
    source_sha256: Sha256
    """Of peft's file of weights."""
    base: Line | None
    """The model that it was trained on, as peft names it."""
    ranks: tuple[Positive, ...]
    """Those that occur."""
    modules: Positive
    """How many it changes."""
    created: Line
    """ISO 8601, UTC."""
    exporter: dict[Line, Line]
    """Package -> version."""


class AdapterManifest(Strict, frozen=True, kw_only=True):
    """What an adapter says of itself."""

    format: Annotated[str, Meta(pattern=rf"^{ADAPTER_FORMAT.name}\Z")]
    format_version: int
    name: Name
    base: Name
    """What the bundle that it is an add-on to is served as."""
    kind: Annotated[str, Meta(pattern=r"^causal-lm\Z")]
    context_length: Positive
    has_chat_template: bool
    """Both as the base has them."""
    sites: Annotated[tuple[Site, ...], Meta(min_length=1)]
    forms: Annotated[tuple[Form, ...], Meta(min_length=1)]
    weights: RelativePath
    provenance: AdapterProvenance
    files: dict[RelativePath, FileEntry]

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for: what its base can."""
        return text_tasks(self.has_chat_template)

    @property
    def media_kinds(self) -> tuple[str, ...]:
        """None: adapters are trained on text."""
        return ()


class Adapter:
    """An opened adapter: its directory, its checked manifest, and what clients call it."""

    def __init__(self, path: Path, manifest: AdapterManifest) -> None:
        self.path = path
        self.manifest = manifest
        self.name = f"{manifest.base}{SEPARATOR}{manifest.name}"

    @classmethod
    def open(cls, path: Path) -> Adapter:
        """Read the manifest and check that every file is there at its size.

        Raises:
            BundleInvalid: naming the file or field at fault.
        """
        manifest, _ = read_manifest(path / MANIFEST_FILE, ADAPTER_FORMAT, AdapterManifest)
        named = [manifest.weights, *(form.graph for form in manifest.forms)]
        check_files(path, manifest.files, named)
        return cls(path, manifest)

    def verify_hashes(self) -> None:
        """Read every file and compare its SHA-256.

        Raises:
            BundleInvalid: naming the file that was altered.
        """
        verify_hashes(self.path, self.manifest.files)

    def file(self, name: str) -> Path:
        """The path of a file that the manifest names."""
        return self.path / name

    @property
    def digest(self) -> str:
        """Tells its weights from all others: SHA-256 of their file."""
        return self.manifest.files[self.manifest.weights].sha256

    def form_for(self, base: TextBundle, variant: str) -> Form:
        """Its graph for a variant of `base`.

        Raises:
            BundleInvalid: it was made for another base, or has none for that variant.
        """
        manifest = self.manifest
        form = next((form for form in manifest.forms if form.variant == variant), None)
        if form is None:
            has = ", ".join(form.variant for form in manifest.forms)
            raise BundleInvalid(
                f"{self.name} has no graph for the variant {variant} that"
                f" {base.name} runs as, but for {has}"
            )
        files = base.manifest.files
        for name, digest in form.weights.items():
            if name not in files or files[name].sha256 != digest:
                raise BundleInvalid(
                    f"{self.name} was made for another base: the weights {name} of"
                    f" {base.name} are not those that it was packaged for"
                )
        return form

    def matrices(self) -> Matrices:
        """Module -> its two matrices, float32 [rank, input width] and [rank, output width].

        Raises:
            BundleInvalid: the file is not what it should be.
        """
        return read_matrices(self.file(self.manifest.weights))


def read_matrices(path: Path) -> Matrices:
    """The matrices in the file `path`; raises as `Adapter.matrices`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            modules = [key.removesuffix(".a") for key in file.files if key.endswith(".a")]
            return {name: (file[f"{name}.a"], file[f"{name}.b"]) for name in modules}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleInvalid(f"{path}: {error}") from error


def is_adapter(path: Path) -> bool:
    """Whether the directory `path` holds an adapter's manifest."""
    try:
        return format_of(path) == ADAPTER_FORMAT.name
    except BundleInvalid:
        return False


def open_package(path: Path) -> AnyBundle | Adapter:
    """The bundle, or the adapter, in the directory `path`.

    Raises:
        BundleInvalid: naming the file or field at fault.
    """
    return Adapter.open(path) if format_of(path) == ADAPTER_FORMAT.name else Bundle.open(path)
