"""A bundle: one packaged model in one directory, and the check that it is whole.

    NAME/
      manifest.json            this module's `Manifest`; names and hashes every other file
      tokenizer.json           Hugging Face tokenizers' own format
      chat_template.jinja      optional
      golden.json              `GoldenPrompt`s: what the fp32 model said
      VARIANT/model.onnx       a graph for one device and precision
      VARIANT/model.onnx.data  its weights, read by mmap

The daemon takes everything it knows of a model from here. docs/bundle.md tells the fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from nsedge.bundle import versions
from nsedge.errors import BundleInvalid

FORMAT = "nsedge-bundle"
FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"

TOKEN_SCALE_BYTES = 2

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")]
RelativePath = Annotated[str, Meta(pattern=r"^(?!/)(?!.*(^|/)\.\.(/|$))[A-Za-z0-9._/-]{1,255}$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields are exact: an unknown one is refused by name."""


M = TypeVar("M", bound=Strict)


class FileEntry(Strict, frozen=True, kw_only=True):
    """A file of the bundle, as it was packaged."""

    sha256: Sha256
    bytes: Count


class KvLayout(Strict, frozen=True, kw_only=True):
    """The key and value cache of every layer: `[slots, heads, capacity, width]` of `dtype`.

    Tokens lie in blocks of `block_tokens`: capacity is a multiple of it, and a prefix is copied in
    whole blocks. Where dtype is int8, cached numbers are to be multiplied by scales: each token has
    its own among them (`token_scales`, two bytes a head), or `scales` names a NumPy file of float32
    [layers, 2, heads, head_dim], keys before values.
    """

    layers: Positive
    heads: Positive
    head_dim: Positive
    dtype: Annotated[str, Meta(pattern=r"^(float32|float16|int8)$")] = "float32"
    block_tokens: Positive = 1
    scales: RelativePath | None = None
    token_scales: bool = False

    def __post_init__(self) -> None:
        if (self.dtype == "int8") != (self.scales is not None or self.token_scales):
            raise ValueError("a cache has scales where it is int8, and only there")

    @property
    def width(self) -> int:
        """Elements that a token takes of each head's keys, and of its values."""
        return self.head_dim + TOKEN_SCALE_BYTES * self.token_scales


class PromptIo(Strict, frozen=True, kw_only=True):
    """A second cache, float32 [1, heads, capacity, head_dim] a layer, that prompts are read with.

    - flag: bool scalar. True: attention reads and extends this cache and leaves the other alone;
      False: the reverse.
    - past_* and present_*: to be bound to the same memory.
    """

    flag: str = "reads_prompt"
    past_key: str = "past_prompt.{layer}.key"
    past_value: str = "past_prompt.{layer}.value"
    present_key: str = "present_prompt.{layer}.key"
    present_value: str = "present_prompt.{layer}.value"


class GraphIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's inputs and outputs; `{layer}` stands for the layer's number from 0.

    - input_ids: int64 [B, Q]; seqlens_k: int32 [B], the row's length after this call, less one;
      total_sequence_length: int32 scalar, the batch's greatest length after this call.
    - segments: int32 [S, 3], in place of those two, and B = 1: the Q tokens are of S sequences, one
      after the other; for each the row of the cache, the tokens in it, and how many are new to it.
    - kept_positions: int64 [K], which of the Q positions to give logits for.
    - position_ids: int64 [B, Q]; None where the graph computes positions itself.
    - logits: float32 [B, K, vocab_size].
    - past_* and present_*: the KV cache, to be bound to the same memory.
    - prompt: the float32 cache that prompts are read with, where the KV cache is int8.
    """

    input_ids: str = "input_ids"
    seqlens_k: str = "seqlens_k"
    total_sequence_length: str = "total_sequence_length"
    segments: str | None = None
    kept_positions: str = "logits_to_keep"
    position_ids: str | None = None
    logits: str = "logits"
    past_key: str = "past_key_values.{layer}.key"
    past_value: str = "past_key_values.{layer}.value"
    present_key: str = "present.{layer}.key"
    present_value: str = "present.{layer}.value"
    prompt: PromptIo | None = None


class Fidelity(Strict, frozen=True, kw_only=True):
    """How near a variant is to fp32 of the same weights, teacher-forced over a text.

    kl is the mean over positions of KL(fp32 || variant) in nats; top1 the share of positions whose
    most probable token agrees; perplexity is exp of the mean negative log-likelihood.
    """

    positions: Positive
    kl: float
    top1: float
    perplexity: float
    perplexity_fp32: float
    text_sha256: Sha256


class Variant(Strict, frozen=True, kw_only=True):
    """The graph for one device and precision. It runs where all that it `requires` is there."""

    name: Name
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda)$")]
    scheme: str
    graph: RelativePath
    requires: tuple[str, ...] = ()
    io: GraphIo
    kv: KvLayout
    fidelity: Fidelity | None = None

    def __post_init__(self) -> None:
        if (self.kv.scales is not None) != (self.io.prompt is not None):
            raise ValueError("a graph has a prompt cache where its cache has fixed scales")


class Tokenizer(Strict, frozen=True, kw_only=True):
    """The tokenizer's file and the special tokens that the template and the text prompt need."""

    file: RelativePath
    bos_token: str | None = None
    eos_token: str | None = None
    add_bos: bool = False
    """Whether a text prompt begins with bos_token; a chat template writes its own."""


class GenerationDefaults(Strict, frozen=True, kw_only=True):
    """Sampling where a request says nothing; neutral values where this says nothing."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


class Provenance(Strict, frozen=True, kw_only=True):
    """Where the weights came from and who may use them."""

    source: str
    revision: str | None = None
    architecture: str
    parameters: Positive
    licence: str
    created: str
    """ISO 8601, UTC."""
    exporter: dict[str, str]
    """Package -> version."""
    thresholds: dict[str, float] = {}
    """Limits of the build that were asked for in the place of the usual ones; mostly none."""


class Manifest(Strict, frozen=True, kw_only=True):
    """What a bundle says of itself."""

    format: Annotated[str, Meta(pattern=f"^{FORMAT}$")]
    format_version: int
    name: Name
    kind: Annotated[str, Meta(pattern=r"^causal-lm$")]
    context_length: Positive
    vocab_size: Positive
    eos_token_ids: Annotated[tuple[Count, ...], Meta(min_length=1)]
    tokenizer: Tokenizer
    chat_template: RelativePath | None
    generation_defaults: GenerationDefaults
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1)]
    golden: RelativePath
    provenance: Provenance
    files: dict[RelativePath, FileEntry]

    @property
    def has_chat_template(self) -> bool:
        """Whether it can be asked with messages."""
        return self.chat_template is not None

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for."""
        return text_tasks(self.has_chat_template)


def text_tasks(has_chat_template: bool) -> tuple[str, ...]:
    """What a model that writes text can be asked for."""
    return ("generate", "chat") if has_chat_template else ("generate",)


class GoldenPrompt(Strict, frozen=True, kw_only=True):
    """What the fp32 model continued a prompt with, greedily.

    logprobs holds the fp32 log-probability (nats) of each continuation token, teacher-forced.
    """

    text: str
    prompt_ids: tuple[Count, ...]
    continuation_ids: tuple[Count, ...]
    logprobs: tuple[float, ...]


class Bundle:
    """An opened bundle: its directory, its checked manifest, and what clients call it."""

    def __init__(self, path: Path, manifest: Manifest, name: str) -> None:
        self.path = path
        self.manifest = manifest
        self.name = name

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read the manifest and check that every file is there at its size.

        Raises:
            BundleInvalid: naming the file or field at fault.
        """
        known = Format(name=FORMAT, version=FORMAT_VERSION)
        manifest, raw = read_manifest(path / MANIFEST_FILE, known, Manifest)
        bundle = cls(path, manifest, versions.served_name(path, manifest.name, raw))
        check_files(path, manifest.files, bundle.named_files())
        return bundle

    def verify_hashes(self) -> None:
        """Read every file and compare its SHA-256.

        Raises:
            BundleInvalid: naming the file that was altered.
        """
        verify_hashes(self.path, self.manifest.files)

    def file(self, name: str) -> Path:
        """The path of a file that the manifest names."""
        return self.path / name

    def chat_template(self) -> str | None:
        """The chat template's text, if the model has one."""
        name = self.manifest.chat_template
        return None if name is None else self.file(name).read_text(encoding="utf-8")

    def golden(self) -> tuple[GoldenPrompt, ...]:
        """The golden prompts.

        Raises:
            BundleInvalid: where the file is not what it should be.
        """
        path = self.file(self.manifest.golden)
        try:
            return msgspec.json.decode(path.read_bytes(), type=tuple[GoldenPrompt, ...])
        except (OSError, msgspec.DecodeError) as error:
            raise BundleInvalid(f"{path}: {error}") from error

    def named_files(self) -> list[str]:
        """The files that the manifest names a use of, all variants' graphs among them."""
        manifest = self.manifest
        named = [manifest.tokenizer.file, manifest.golden, *(v.graph for v in manifest.variants)]
        named += [v.kv.scales for v in manifest.variants if v.kv.scales is not None]
        return named if manifest.chat_template is None else [*named, manifest.chat_template]


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of manifest, and the version of it that this release reads."""

    name: str
    version: int


def read_manifest(path: Path, known: Format, kind: type[M]) -> tuple[M, bytes]:
    """The manifest at `path`, and its file's content.

    Raises:
        BundleInvalid: it cannot be read, is of another version, or a field is wrong.
    """
    raw = _read(path)
    try:
        head = msgspec.json.decode(raw, type=_Head)
        if head.format == known.name and head.format_version != known.version:
            raise BundleInvalid(
                f"{path}: format version {head.format_version}; this release reads {known.version}"
            )
        return msgspec.json.decode(raw, type=kind), raw
    except msgspec.DecodeError as error:
        raise BundleInvalid(f"{path}: {error}") from error


def format_of(path: Path) -> str:
    """What the manifest in the directory `path` says that it is of.

    Raises:
        BundleInvalid: it cannot be read.
    """
    file = path / MANIFEST_FILE
    try:
        return msgspec.json.decode(_read(file), type=_Head).format
    except msgspec.DecodeError as error:
        raise BundleInvalid(f"{file}: {error}") from error


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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleInvalid(f"{path}: {error.strerror}") from error


class _Head(msgspec.Struct):
    format: str
    format_version: int


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
