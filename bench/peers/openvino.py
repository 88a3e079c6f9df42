"""OpenVINO GenAI: an environment of its own, and our weights converted to its int8."""

from __future__ import annotations

import os
from pathlib import Path

from bench.peers.building import Builder, command
from exporters.cache import folder_digest

PACKAGES = (
    "openvino-genai==2026.4.1.0",
    "optimum-intel==2.2.0",
    "nncf==3.4.0",
    "torch==2.13.0",
    "transformers==5.5.4",
)
UNWANTED = ("torchvision",)
"""It comes with optimum-intel, for another torch than ours."""
FORMAT = "int8"


def environment(builder: Builder) -> Path:
    """The interpreter."""
    return builder.environment("openvino", PACKAGES, UNWANTED)


def convert(builder: Builder, python: Path, model: Path) -> Path:
    """The folder of the converted model."""

    def make(folder: Path) -> None:
        task = ["--task", "text-generation-with-past", "--weight-format", FORMAT]
        exporter = [python, "-m", "optimum.commands.optimum_cli", "export", "openvino"]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command([*exporter, "--model", model, *task, folder / FORMAT], env=offline)

    inputs = {"model": folder_digest(model), "packages": PACKAGES, "format": FORMAT}
    return builder.get("openvino-weights", inputs, make) / FORMAT
