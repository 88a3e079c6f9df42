"""A bundle: one packaged model in one directory, and the check that it is whole.

    NAME/
      manifest.json            the manifest of its kind; names and hashes every other file
      tokenizer.json           Hugging Face tokenizers' own format
      chat_template.jinja      optional
      golden.json              golden samples: what the fp32 model said
      VARIANT/model.onnx       a graph for one device and precision
      VARIANT/model.onnx.data  its weights, read by mmap

The daemon takes everything it knows of a model from here. docs/bundle.md tells the fields.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, TypeVar

from nsedge.bundle import versions
from nsedge.bundle.caption import Caption
from nsedge.bundle.causal_lm import CausalLm, CausalLmV1
from nsedge.bundle.diffusion import Diffusion
from nsedge.bundle.dual_encoder import DualEncoder
from nsedge.bundle.encoder import Encoder
from nsedge.bundle.fields import FORMAT, FORMAT_VERSION
from nsedge.bundle.files import (
    MANIFEST_FILE,
    Format,
    check_files,
    decode,
    read_file,
    read_manifest,
    verify_hashes,
    version_of,
)
from nsedge.bundle.headed import HeadedEncoder
from nsedge.bundle.speech import Speech
from nsedge.bundle.vision_lm import VisionLm
from nsedge.errors import BundleInvalid

Manifest = (
    CausalLm | VisionLm | Encoder | HeadedEncoder | DualEncoder | Speech | Caption | Diffusion
)
"""What a bundle says of itself, by `kind`."""

M = TypeVar("M", bound=Manifest, covariant=True)
Kind = TypeVar("Kind", bound=Manifest)
Sample = TypeVar("Sample")


class Bundle(Generic[M]):
    """An opened bundle: its directory, its checked manifest, and what clients call it."""

    def __init__(self, path: Path, manifest: M, name: str) -> None:
        self.path = path
        self.manifest = manifest
        self.name = name

    @staticmethod
    def open(path: Path) -> Bundle[Manifest]:
        """Read the manifest and check that every file is there at its size.

        Raises:
            BundleInvalid: naming the file or field at fault.
        """
        manifest, raw = _read(path / MANIFEST_FILE)
        check_files(path, manifest.files, manifest.named_files())
        return Bundle(path, manifest, versions.served_name(path, manifest.name, raw))

    def of_kind(self, kind: type[Kind]) -> Bundle[Kind]:
        """The same bundle, known to be of one kind.

        Raises:
            BundleInvalid: it is of another.
        """
        manifest = self.manifest
        if not isinstance(manifest, kind):
            raise BundleInvalid(
                f"{self.path}: the model is of the kind {manifest.kind}, not"
                f" {kind.__struct_config__.tag}"
            )
        return Bundle(self.path, manifest, self.name)

    def verify_hashes(self) -> None:
        """Read every file and compare its SHA-256.

        Raises:
            BundleInvalid: naming the file that was altered.
        """
        verify_hashes(self.path, self.manifest.files)

    def file(self, name: str) -> Path:
        """The path of a file that the manifest names."""
        return self.path / name

    def text(self, name: str | None) -> str | None:
        """The text of a file, such as a chat template; None where there is none."""
        return None if name is None else self.file(name).read_text(encoding="utf-8")

    def golden(self, task: str, sample: type[Sample]) -> tuple[Sample, ...]:
        """The golden samples of a task.

        Raises:
            BundleInvalid: there are none, or the file is not what it should be.
        """
        if task not in self.manifest.golden:
            raise BundleInvalid(f"{self.path}: no golden samples of the task {task}")
        path = self.file(self.manifest.golden[task])
        kind: Any = tuple[sample, ...]  # type: ignore[valid-type]
        samples: tuple[Sample, ...] = decode(read_file(path), kind, path)
        return samples


TextBundle = Bundle[CausalLm]
"""Of a model that writes text."""
WritingBundle = Bundle[CausalLm] | Bundle[Caption]
"""Of a model that writes text of its own."""
AnyBundle = Bundle[Manifest]


def open_causal_lm(path: Path) -> TextBundle:
    """The bundle at `path`, of a model that writes text; raises what `Bundle.open` and `of_kind`
    do."""
    return Bundle.open(path).of_kind(CausalLm)


def _read(path: Path) -> tuple[Manifest, bytes]:
    """The manifest at `path` in the format of today, and its file's content."""
    version = version_of(path)
    if version == 1:
        old: CausalLmV1
        old, raw = read_manifest(path, Format(name=FORMAT, version=1), CausalLmV1)
        return old.current(), raw
    if version > FORMAT_VERSION:
        raise BundleInvalid(f"{path}: format version {version}; this release reads 1 and 2")
    today = Format(name=FORMAT, version=FORMAT_VERSION)
    manifest: Manifest
    manifest, raw = read_manifest(path, today, Manifest)
    return manifest, raw
