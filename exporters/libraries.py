"""The libraries that decide what a bundle looks like."""

from __future__ import annotations

import importlib.metadata

LIBRARIES = ("torch", "optimum-onnx", "transformers", "onnx", "onnxruntime-gpu", "tokenizers")


def library_versions() -> dict[str, str]:
    """Their versions."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
