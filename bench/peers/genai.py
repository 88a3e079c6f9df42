"""onnxruntime-genai: an environment of its own, and our weights through its own builder."""

from __future__ import annotations

from pathlib import Path

from bench.peers.building import Builder, command
from exporters.cache import folder_digest

PACKAGES = (
    "onnxruntime-genai==0.18.0",
    "onnxruntime==1.31.1",
    "torch==2.13.0",
    "transformers==5.5.4",
    "onnx==1.23.2",
    "onnx-ir==1.1.0",
)
FORMAT = "int8"
OPTIONS = ("accuracy_level=4", "block_size=64")
"""Eight-bit products of eight-bit activations: its fastest, and our own blocks."""


def environment(builder: Builder) -> Path:
    """The interpreter."""
    return builder.environment("genai", PACKAGES)


def convert(builder: Builder, python: Path, model: Path) -> Path:
    """The folder of the converted model."""

    def make(folder: Path) -> None:
        maker = [python, "-m", "onnxruntime_genai.models.builder", "-i", model]
        what = ["-o", folder / FORMAT, "-p", FORMAT, "-e", "cpu", "-c", folder / "cache"]
        command([*maker, *what, "--extra_options", *OPTIONS])

    inputs = {"model": folder_digest(model), "packages": PACKAGES, "options": OPTIONS}
    return builder.get("genai-weights", inputs, make) / FORMAT
