"""A LoRA as an add-on to a bundle: its matrices, and the base's graphs with inputs for them."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from exporters.adapter.graph import data_files, find_sites, with_adapters
from exporters.adapter.lora import ServedLora, read_lora
from exporters.cache import new_directory
from exporters.errors import ExportError, Refused
from exporters.graph.records import GRAPH_FILE
from exporters.quantise.schemes import SCHEMES, Device, Method
from nsedge.bundle.adapter import (
    ADAPTER_FORMAT,
    Adapter,
    AdapterManifest,
    AdapterProvenance,
    Form,
)
from nsedge.bundle.causal_lm import Variant
from nsedge.bundle.fields import FileEntry
from nsedge.bundle.files import sha256_of, write_manifest
from nsedge.bundle.manifest import TextBundle, open_causal_lm
from nsedge.bundle.sites import Site
from nsedge.errors import BundleInvalid
from nsedge.runtime.graph.adapters import LoadedAdapter
from nsedge.version import VERSION

WEIGHTS = "adapter.npz"


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """What came of it. `made` is False where the same was there already."""

    adapter: Adapter
    made: bool
    left_out: dict[str, str]
    """Variant of the base -> why it takes no adapters."""

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(entry.bytes for entry in self.adapter.manifest.files.values())


def package_adapter(
    base: Path, folder: Path, *, name: str, out: Path, replace: bool = False
) -> Packaged:
    """Package the LoRA in `folder` for the bundle `base`, as `name`, at `out`.

    Raises:
        BundleInvalid: the base is damaged.
        Refused: the adapter cannot be served beside it.
        ExportError: something else failed, or `out` is taken.
    """
    bundle, lora = open_causal_lm(base), read_lora(folder)
    variants, left_out = _choose(bundle)
    sites = _sites(bundle, variants[0])
    _check_fit(lora, sites)
    existing = _existing(out)
    if out.exists() and not replace and not _is_of(existing, bundle, name):
        raise ExportError(f"{out} is there already and is another thing; --force replaces it")
    try:
        with new_directory(out) as building:
            arrays: dict[str, Any] = lora.arrays()
            np.savez(building / WEIGHTS, **arrays)
            for variant in variants:
                graph = with_adapters(bundle.file(variant.graph), sites, variant.io)
                (building / _graph(variant)).write_bytes(graph)
            manifest = AdapterManifest(
                format=ADAPTER_FORMAT.name,
                format_version=ADAPTER_FORMAT.version,
                name=name,
                base=bundle.name,
                kind=bundle.manifest.kind,
                context_length=bundle.manifest.context_length,
                has_chat_template=bundle.manifest.has_chat_template,
                sites=sites,
                forms=tuple(_form(bundle, variant) for variant in variants),
                weights=WEIGHTS,
                provenance=_provenance(lora, folder),
                files={path.name: _entry(path) for path in sorted(building.iterdir())},
            )
            if existing is not None and _same(existing, manifest):
                raise _UnchangedError
            write_manifest(building, manifest)
    except _UnchangedError:
        return Packaged(adapter=Adapter.open(out), made=False, left_out=left_out)
    return Packaged(adapter=Adapter.open(out), made=True, left_out=left_out)


class _UnchangedError(Exception):
    """The very same is there already."""


def _choose(bundle: TextBundle) -> tuple[list[Variant], dict[str, str]]:
    """The variants that take adapters, and why others do not.

    Raises:
        Refused: none does.
    """
    chosen: list[Variant] = []
    left_out: dict[str, str] = {}
    for variant in bundle.manifest.variants:
        scheme = SCHEMES.get(variant.scheme)
        if variant.device != Device.CPU:
            left_out[variant.name] = "adapters run on the CPU only"
        elif scheme is not None and scheme.method is Method.ROTATED:
            left_out[variant.name] = "its activations are turned, and an adapter's are not"
        elif chosen and _sites(bundle, variant) != _sites(bundle, chosen[0]):
            left_out[variant.name] = f"its products are not those of {chosen[0].name}"
        else:
            chosen.append(variant)
    if not chosen:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise Refused(f"no variant of {bundle.name} takes adapters: {why}")
    return chosen, left_out


def _sites(bundle: TextBundle, variant: Variant) -> tuple[Site, ...]:
    """Those of a variant, from the standard graph beside it."""
    return find_sites(bundle.file(variant.graph).with_name(GRAPH_FILE))


def _check_fit(lora: ServedLora, sites: tuple[Site, ...]) -> None:
    try:
        LoadedAdapter.of("", sites, lora.matrices)
    except BundleInvalid as error:
        made_for = "" if lora.base is None else f" (it says it was made for {lora.base})"
        raise Refused(f"{error.message}{made_for}") from error


def _graph(variant: Variant) -> str:
    return f"{variant.name}.onnx"


def _form(bundle: TextBundle, variant: Variant) -> Form:
    folder, files = PurePosixPath(variant.graph).parent, bundle.manifest.files
    data = sorted(str(folder / name) for name in data_files(bundle.file(variant.graph)))
    weights = {name: files[name].sha256 for name in data}
    return Form(variant=variant.name, graph=_graph(variant), weights=weights)


def _provenance(lora: ServedLora, folder: Path) -> AdapterProvenance:
    libraries = {name: importlib.metadata.version(name) for name in ("onnx", "safetensors")}
    return AdapterProvenance(
        source=folder.name,
        source_sha256=sha256_of(lora.weights),
        base=lora.base,
        ranks=lora.ranks,
        modules=len(lora.matrices),
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        exporter={"nsedge": VERSION, **libraries},
    )


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)


def _existing(out: Path) -> Adapter | None:
    """The whole adapter at `out`, if there is one."""
    try:
        return Adapter.open(out)
    except BundleInvalid:
        return None


def _is_of(existing: Adapter | None, bundle: TextBundle, name: str) -> bool:
    return existing is not None and (existing.manifest.base, existing.manifest.name) == (
        bundle.name,
        name,
    )


def _same(existing: Adapter, manifest: AdapterManifest) -> bool:
    """Whether nothing but the moment of making would change."""
    old = existing.manifest
    provenance = msgspec.structs.replace(old.provenance, created=manifest.provenance.created)
    return msgspec.structs.replace(old, provenance=provenance) == manifest
