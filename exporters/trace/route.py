"""The way to an fp32 graph through PyTorch."""

from __future__ import annotations

from pathlib import Path

from exporters.model.route import Route
from exporters.model.source import Source

LIBRARIES = ("torch", "optimum-onnx", "transformers", "onnx", "onnxruntime-gpu", "tokenizers")


def _trace(source: Source, folder: Path, max_context: int) -> None:
    from exporters.trace.reference import make_reference  # torch: only when there is work

    make_reference(source, folder, max_context=max_context)


TRACED = Route(make=_trace, module="exporters.trace.reference", libraries=LIBRARIES)
"""Through PyTorch and Optimum."""
