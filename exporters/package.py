"""Put the parts of a bundle into its directory, all at once."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from exporters.cache import new_directory
from exporters.errors import ExportError
from exporters.records import (
    DATA_FILE,
    GRAPH_FILE,
    NATIVE_FILE,
    ReferenceRecord,
    native_record,
)
from exporters.source import Source
from nsedge.bundle import (
    FORMAT,
    FORMAT_VERSION,
    Bundle,
    Fidelity,
    FileEntry,
    GoldenPrompt,
    KvLayout,
    Manifest,
    Provenance,
    Tokenizer,
    Variant,
    sha256_of,
    write_manifest,
)
from nsedge.errors import BundleInvalid
from nsedge.native import REQUIREMENT
from nsedge.version import VERSION

GOLDEN_FILE = "golden.json"
TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
LICENCE_FILE = "LICENSE"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All that goes into a bundle; `graph` is the directory of its graph and weights."""

    name: str
    scheme: str
    source: Source
    record: ReferenceRecord
    graph: Path
    golden: tuple[GoldenPrompt, ...]
    fidelity: Fidelity
    libraries: dict[str, str]
    device: str = "cpu"
    native: Fidelity | None = None
    """Of the graph's form on the daemon's own operators; None leaves that out of the bundle."""

    @property
    def variant(self) -> str:
        """The variant's name, and its directory's."""
        suffix = {"float32": "", "float16": "-fp16", "int8": "-kv8"}[self.record.kv.dtype]
        return f"{self.device}-{self.scheme}{suffix}"

    @property
    def kv(self) -> KvLayout:
        """The cache, its scales by their place in the bundle."""
        kv = self.record.kv
        if kv.scales is None:
            return kv
        return msgspec.structs.replace(kv, scales=f"{self.variant}/{kv.scales}")


def write_bundle(parts: Parts, out: Path, *, replace: bool) -> bool:
    """Write the bundle; False where the very same is there already.

    Raises:
        ExportError: something else is at `out` and `replace` is not set.
    """
    contents = _contents(parts)
    manifest = _manifest(parts, contents)
    existing = _existing(out)
    if existing is not None and _same(existing, manifest):
        return False
    check_place(out, parts.name, parts.source.origin, replace=replace)
    with new_directory(out) as folder:
        for name, content in contents.items():
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, target)
            else:
                target.write_bytes(content)
        write_manifest(folder, manifest)
    return True


def check_place(out: Path, name: str, origin: str, *, replace: bool) -> None:
    """Leave alone what is at `out`, unless it is an earlier bundle of the same model.

    Raises:
        ExportError: it is another thing and `replace` is not set.
    """
    if replace or not out.exists():
        return
    existing = _existing(out)
    if existing is not None:
        manifest = existing.manifest
        if (manifest.name, manifest.provenance.source) == (name, origin):
            return
    raise ExportError(f"{out} is there already and is another thing; --force replaces it")


def variant_digest(bundle: Bundle) -> str:
    """What tells the first variant's graph and weights from all others."""
    folder = f"{bundle.manifest.variants[0].graph.rpartition('/')[0]}/"
    files = bundle.manifest.files
    hashes = [files[name].sha256 for name in sorted(files) if name.startswith(folder)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _contents(parts: Parts) -> dict[str, Path | bytes]:
    """Every file but the manifest: where it is, or what it says."""
    contents: dict[str, Path | bytes] = {
        TOKENIZER_FILE: parts.source.tokenizer_file,
        GOLDEN_FILE: msgspec.json.format(msgspec.json.encode(parts.golden), indent=1) + b"\n",
    }
    native = () if parts.native is None else (NATIVE_FILE,)
    for name in (GRAPH_FILE, DATA_FILE, *native):
        contents[f"{parts.variant}/{name}"] = parts.graph / name
    if (scales := parts.record.kv.scales) is not None:
        contents[f"{parts.variant}/{scales}"] = parts.graph / scales
    if template := parts.source.chat_template():
        contents[TEMPLATE_FILE] = template.encode()
    licence = parts.source.folder / LICENCE_FILE
    if licence.is_file():
        contents[LICENCE_FILE] = licence
    return contents


def _manifest(parts: Parts, contents: dict[str, Path | bytes]) -> Manifest:
    source, record, reader = parts.source, parts.record, parts.source.text_reader()
    tokenizer = Tokenizer(
        file=TOKENIZER_FILE,
        bos_token=reader.bos_token,
        eos_token=reader.eos_token,
        add_bos=reader.add_bos,
    )
    return Manifest(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        name=parts.name,
        kind="causal-lm",
        context_length=record.context_length,
        vocab_size=record.vocab_size,
        eos_token_ids=source.eos_ids(reader),
        tokenizer=tokenizer,
        chat_template=TEMPLATE_FILE if TEMPLATE_FILE in contents else None,
        generation_defaults=source.defaults(),
        variants=_variants(parts),
        golden=GOLDEN_FILE,
        provenance=_provenance(parts),
        files={name: _entry(content) for name, content in sorted(contents.items())},
    )


def _variants(parts: Parts) -> tuple[Variant, ...]:
    """The faster one first: a daemon takes the first that it can run."""
    standard = Variant(
        name=parts.variant,
        device=parts.device,
        scheme=parts.scheme,
        graph=f"{parts.variant}/{GRAPH_FILE}",
        io=parts.record.io,
        kv=parts.kv,
        fidelity=parts.fidelity,
    )
    if parts.native is None:
        return (standard,)
    record = native_record(parts.record)
    native = msgspec.structs.replace(
        standard,
        name=f"{standard.name}-native",
        graph=f"{parts.variant}/{NATIVE_FILE}",
        requires=(REQUIREMENT,),
        io=record.io,
        kv=record.kv,
        fidelity=parts.native,
    )
    return native, standard


def _provenance(parts: Parts) -> Provenance:
    source = parts.source
    return Provenance(
        source=source.origin,
        revision=source.revision,
        architecture=source.architecture(),
        parameters=source.parameters(),
        licence=source.licence(),
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        exporter={"nsedge": VERSION, **parts.libraries},
    )


def _entry(content: Path | bytes) -> FileEntry:
    if isinstance(content, Path):
        return FileEntry(sha256=sha256_of(content), bytes=content.stat().st_size)
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _existing(out: Path) -> Bundle | None:
    """The whole bundle at `out`, if there is one."""
    try:
        return Bundle.open(out)
    except BundleInvalid:
        return None


def _same(existing: Bundle, manifest: Manifest) -> bool:
    """Whether nothing but the moment of making would change."""
    old = existing.manifest
    provenance = msgspec.structs.replace(old.provenance, created=manifest.provenance.created)
    return msgspec.structs.replace(old, provenance=provenance) == manifest
