"""An adapter for a bundle without weights; its graph is not one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nsedge.bundle.adapter import (
    ADAPTER_FORMAT,
    AdapterManifest,
    AdapterProvenance,
    Form,
)
from nsedge.bundle.fields import FileEntry
from nsedge.bundle.files import sha256_of, write_manifest
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.sites import Part, Site

SITE = Site(
    name="/model/layers.0/attn/q_proj+2",
    role="model.layers.attn.q_proj",
    width=6,
    parts=tuple(
        Part(module=f"model.layers.0.attn.{name}", width=width)
        for name, width in (("q_proj", 4), ("k_proj", 2), ("v_proj", 2))
    ),
)


def write_adapter(path: Path, base: Path, name: str, *, rank: int = 2) -> Path:
    """Write an adapter of the bundle at `base` to the directory `path`."""
    path.mkdir(parents=True)
    random = np.random.default_rng(rank)
    module = SITE.parts[0].module
    np.savez(
        path / "adapter.npz",
        **{
            f"{module}.a": random.standard_normal((rank, 6), np.float32),
            f"{module}.b": random.standard_normal((rank, 4), np.float32),
        },
    )
    (path / "cpu.onnx").write_bytes(b"not a graph")
    bundle = Bundle.open(base)
    graph = bundle.manifest.variants[0].graph
    manifest = AdapterManifest(
        format=ADAPTER_FORMAT.name,
        format_version=ADAPTER_FORMAT.version,
        name=name,
        base=bundle.manifest.name,
        kind="causal-lm",
        context_length=64,
        has_chat_template=True,
        sites=(SITE,),
        forms=(
            Form(
                variant="cpu",
                graph="cpu.onnx",
                weights={graph: bundle.manifest.files[graph].sha256},
            ),
        ),
        weights="adapter.npz",
        provenance=AdapterProvenance(
            source="made for a test",
            source_sha256="0" * 64,
            base=None,
            ranks=(rank,),
            modules=1,
            created="2026-01-02T03:04:05Z",
            exporter={},
        ),
        files={
            file: FileEntry(sha256=sha256_of(path / file), bytes=(path / file).stat().st_size)
            for file in ("adapter.npz", "cpu.onnx")
        },
    )
    write_manifest(path, manifest)
    return path
