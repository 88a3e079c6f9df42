"""A way to a model's fp32 graph, and all that the graph depends on besides the model."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from exporters.model.source import Source


@dataclass(frozen=True, kw_only=True)
class Route:
    """How the fp32 graph comes about.

    `make` writes it to a directory for a longest context; `module` names the module that does the
    work (see `exporters.code`). That and `libraries` are all that the result depends on besides
    the source.
    """

    make: Callable[[Source, Path, int], None]
    module: str
    libraries: tuple[str, ...]


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Those of `names` that are installed: they decide what a bundle looks like."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
