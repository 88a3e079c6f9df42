"""Put the parts of a bundle into its directory, all at once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from exporters.bundle.choosing import refuse_failures
from exporters.bundle.forms import checks_of, forms_of, notes_on
from exporters.cache import Cache, new_directory
from exporters.errors import ExportError
from exporters.graph.records import DATA_FILE, GRAPH_FILE, NATIVE_FILE, Exported
from exporters.measure.build_report import REPORT_FILE, REPORT_PAGE, report_json, report_page
from exporters.measure.thresholds import Overrides, check_overrides, form_names
from exporters.measure.verdict import Verdict
from exporters.model.source import LICENCE_FILE, LINEAGE_FILE, Source
from nsedge.bundle.causal_lm import CausalLm
from nsedge.bundle.fields import FileEntry, Provenance, Tokenizer
from nsedge.bundle.files import sha256_of, write_manifest
from nsedge.bundle.manifest import AnyBundle, Bundle, Manifest
from nsedge.errors import BundleInvalid
from nsedge.version import VERSION

Contents = dict[str, Path | bytes]
"""Files of a bundle by their paths in it: where each is, or what it says."""

LINKS = "reference-of"
"""What the cache calls the links from bundles to fp32 graphs."""
GOLDEN_FILE = "golden.json"
TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
TOOL_TEMPLATE_FILE = "tool_template.jinja"


@dataclass(frozen=True, kw_only=True)
class Addition:
    """What a model has beside a decoder: files of its bundle, and what its manifest says more."""

    contents: Contents
    complete: Callable[[CausalLm], CausalLm]


@dataclass(frozen=True, kw_only=True)
class Product:
    """What an export made: its graphs' directories by variant, and the folder of the model.

    Of `source` only the `SMALL_FILES` are read.
    """

    exported: Exported
    source: Source
    folders: dict[str, Path]
    addition: Addition | None = None


def package(
    product: Product, out: Path, *, name: str, overrides: Overrides, replace: bool
) -> tuple[bool, Verdict]:
    """Write the bundle `name`; whether it was not there already, and how its variants are.

    Raises:
        ExportError: a variant is farther from fp32 than it may be, or something else is at `out`
            and `replace` is not set.
    """
    exported = product.exported
    check_overrides(overrides, form_names(variant.name for variant in exported.variants))
    verdict = _verdict(product, name, overrides)
    refuse_failures([(c.variant, reason) for c in verdict.checks for reason in c.failures])
    contents = _contents(product, verdict)
    addition = product.addition
    contents |= {} if addition is None else addition.contents
    text = _manifest(product, contents, name, overrides)
    manifest: Any = text if addition is None else addition.complete(text)
    return write_bundle(out, manifest, contents, replace=replace), verdict


def write_bundle(out: Path, manifest: Manifest, contents: Contents, *, replace: bool) -> bool:
    """Write a bundle to `out`, all at once; False where the same is there already.

    Raises:
        ExportError: something else is there and `replace` is not set.
    """
    existing = _existing(out)
    if existing is not None and _same(existing, manifest):
        return False
    check_place(out, manifest.name, manifest.provenance.source, replace=replace)
    with new_directory(out) as folder:
        for path, content in contents.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, target)
            else:
                target.write_bytes(content)
        write_manifest(folder, manifest)
    return True


def _verdict(product: Product, name: str, overrides: Overrides) -> Verdict:
    exported = product.exported
    checks = tuple(c for made in exported.variants for c in checks_of(made, overrides))
    return Verdict(
        name=name,
        checks=checks,
        skipped={},
        prompts=exported.prompts,
        answers=exported.answers,
        difference=exported.difference,
        recorded_difference=exported.recorded_difference,
        overrides=dict(overrides),
        notes=(*exported.notes, *notes_on(exported.variants)),
    )


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


def variant_digest(bundle: AnyBundle) -> str:
    """What tells the first variant's graph and weights from all others."""
    folder = f"{bundle.manifest.variants[0].graph.rpartition('/')[0]}/"
    files = bundle.manifest.files
    hashes = [files[name].sha256 for name in sorted(files) if name.startswith(folder)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def settle(out: Path, cache: Cache, reference: Path) -> int:
    """Have the cache know which fp32 graph the bundle at `out` came of; the bundle's bytes."""
    bundle = Bundle.open(out)
    if reference.is_dir():
        cache.link(LINKS, variant_digest(bundle), reference)
    return sum(entry.bytes for entry in bundle.manifest.files.values())


def _contents(product: Product, verdict: Verdict) -> Contents:
    """Every file but the manifest."""
    golden = msgspec.json.encode(product.exported.golden)
    contents: Contents = {
        TOKENIZER_FILE: product.source.tokenizer_file,
        GOLDEN_FILE: msgspec.json.format(golden, indent=1) + b"\n",
        REPORT_FILE: report_json(verdict),
        REPORT_PAGE: report_page(verdict).encode(),
    }
    for variant in product.exported.variants:
        native = () if variant.native is None else (NATIVE_FILE,)
        scales = () if variant.kv.scales is None else (variant.kv.scales,)
        for name in (GRAPH_FILE, DATA_FILE, *native, *scales):
            contents[f"{variant.name}/{name}"] = product.folders[variant.name] / name
    if template := product.source.chat_template():
        contents[TEMPLATE_FILE] = template.encode()
    if template := product.source.tool_template():
        contents[TOOL_TEMPLATE_FILE] = template.encode()
    for name in (LICENCE_FILE, LINEAGE_FILE):
        if (path := product.source.folder / name).is_file():
            contents[name] = path
    return contents


def _manifest(product: Product, contents: Contents, name: str, overrides: Overrides) -> CausalLm:
    source, exported, reader = product.source, product.exported, product.source.text_reader()
    tokenizer = Tokenizer(
        file=TOKENIZER_FILE,
        bos_token=reader.bos_token,
        eos_token=reader.eos_token,
        unk_token=reader.unk_token,
        pad_token=reader.pad_token,
        add_bos=reader.add_bos,
    )
    return CausalLm.made(
        name=name,
        context_length=exported.context_length,
        vocab_size=exported.vocab_size,
        eos_token_ids=source.eos_ids(reader),
        tokenizer=tokenizer,
        chat_template=TEMPLATE_FILE if TEMPLATE_FILE in contents else None,
        tool_template=TOOL_TEMPLATE_FILE if TOOL_TEMPLATE_FILE in contents else None,
        generation_defaults=source.defaults(),
        variants=tuple(v for made in exported.variants for v, _ in forms_of(made)),
        golden=GOLDEN_FILE,
        provenance=provenance(
            source,
            parameters=exported.parameters,
            libraries=exported.libraries,
            overrides=overrides,
        ),
        files=entries(contents),
    )


def provenance(
    source: Source,
    *,
    parameters: int,
    libraries: Mapping[str, str],
    overrides: Overrides,
    architecture: str | None = None,
) -> Provenance:
    """Where the weights of a model folder come from; `architecture` where its config.json does not
    tell."""
    return Provenance(
        source=source.origin,
        revision=source.revision,
        architecture=architecture or source.architecture(),
        parameters=parameters,
        licence=source.licence(),
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        exporter={"nsedge": VERSION, **libraries},
        thresholds=dict(overrides),
    )


def entries(contents: Contents) -> dict[str, FileEntry]:
    """What a manifest says of the files beside it."""
    return {path: _entry(content) for path, content in sorted(contents.items())}


def _entry(content: Path | bytes) -> FileEntry:
    if isinstance(content, Path):
        return FileEntry(sha256=sha256_of(content), bytes=content.stat().st_size)
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _existing(out: Path) -> AnyBundle | None:
    """The whole bundle at `out`, if there is one."""
    try:
        return Bundle.open(out)
    except BundleInvalid:
        return None


def _same(existing: AnyBundle, manifest: Manifest) -> bool:
    """Whether nothing but the moment of making would change."""
    old = existing.manifest
    provenance = msgspec.structs.replace(old.provenance, created=manifest.provenance.created)
    return msgspec.structs.replace(old, provenance=provenance) == manifest
