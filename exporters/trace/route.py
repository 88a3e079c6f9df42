"""The ways to an fp32 graph, and all that each depends on besides the model."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from exporters.model.source import Source

LIBRARIES = ("torch", "optimum-onnx", "transformers", "onnx", "onnxruntime-gpu", "tokenizers")
GRAPH_CODE = (
    *(
        "trace/decoder_export",
        "trace/decoder_trace",
        "trace/operators",
        "measure/recorded",
        "trace/reference",
    ),
    *("trace/clean", "graph/fold", "graph/graph", "graph/pack", "measure/runner", "model/source"),
)


@dataclass(frozen=True, kw_only=True)
class Route:
    """How the fp32 graph comes about.

    `make` writes it to a directory for a longest context; `code` (modules of this package) and
    `libraries` are all that its result depends on besides the source.
    """

    make: Callable[[Source, Path, int], None]
    code: tuple[str, ...]
    libraries: tuple[str, ...]


def _trace(source: Source, folder: Path, max_context: int) -> None:
    from exporters.trace.reference import make_reference  # torch: only when there is work

    make_reference(source, folder, max_context=max_context)


TRACED = Route(make=_trace, code=GRAPH_CODE, libraries=LIBRARIES)
"""Through PyTorch and Optimum."""


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Those of `names` that are installed: they decide what a bundle looks like."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
