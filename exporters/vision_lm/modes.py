"""The adapters that a model brings along, for its bundle: their matrices, and its decoders' graphs
with inputs for them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporters.adapter.graph import find_sites, with_adapters
from exporters.adapter.lora import ServedLora, read_lora
from exporters.bundle.package import Contents
from exporters.errors import Refused
from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, NATIVE_SUFFIX, native_form
from nsedge.bundle.causal_lm import GraphIo, KvLayout
from nsedge.bundle.mode_adapters import ModeAdapters
from nsedge.bundle.sites import Site
from nsedge.errors import BundleInvalid
from nsedge.runtime.graph.adapters import LoadedAdapter

MATRICES = "adapters/{kind}.npz"
ADAPTED, ADAPTED_NATIVE = "adapted.onnx", "adapted-native.onnx"


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A decoder that was made: where it lies, and whether it is there in its native form, too."""

    name: str
    folder: Path
    io: GraphIo
    kv: KvLayout
    has_native: bool


def mode_adapters(
    folders: Mapping[str, Path], decoders: Iterable[Decoder]
) -> tuple[ModeAdapters, Contents]:
    """The adapters in `folders`, by the kind of media that they are for, for all decoders; and
    their files.

    Raises:
        Refused: one changes what cannot be served beside a base, or does not fit it.
        ExportError: one is damaged.
    """
    loras = {kind: read_lora(folder) for kind, folder in folders.items()}
    contents: Contents = {}
    graphs: dict[str, str] = {}
    sites: tuple[Site, ...] | None = None
    for decoder in decoders:
        own = find_sites(decoder.folder / GRAPH_FILE)
        if sites is not None and own != sites:
            raise Refused(f"variant {decoder.name}: its products are not those of the others")
        sites = own
        forms = [(decoder.name, GRAPH_FILE, ADAPTED, decoder.io)]
        if decoder.has_native:
            io_of_native, _ = native_form(decoder.io, decoder.kv)
            native = decoder.name + NATIVE_SUFFIX
            forms.append((native, NATIVE_FILE, ADAPTED_NATIVE, io_of_native))
        for name, file, adapted, its_io in forms:
            graphs[name] = f"{decoder.name}/{adapted}"
            contents[graphs[name]] = with_adapters(decoder.folder / file, own, its_io)
    if sites is None:
        raise Refused("there is no decoder that adapters could add to")
    for kind, lora in loras.items():
        _check_fit(lora, sites, folders[kind])
        contents[MATRICES.format(kind=kind)] = _packed(lora)
    names = {kind: MATRICES.format(kind=kind) for kind in loras}
    return ModeAdapters(**names, sites=sites, graphs=graphs), contents


def _check_fit(lora: ServedLora, sites: tuple[Site, ...], folder: Path) -> None:
    try:
        LoadedAdapter.of("", sites, lora.matrices)
    except BundleInvalid as error:
        raise Refused(f"{folder}: {error.message}") from error


def _packed(lora: ServedLora) -> bytes:
    arrays: dict[str, Any] = lora.arrays()
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
