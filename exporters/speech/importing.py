"""Whisper models as CTranslate2 has them, turned into model folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exporters.cache import Cache, folder_digest
from exporters.code import code_digest
from exporters.model.ctranslate2 import write_whisper
from exporters.model.source import Source


def as_model_folder(source: Source, cache: Cache) -> Source:
    """The same model in transformers' layout, made if it is not in the cache.

    Raises:
        Refused: it is another model than Whisper, or lacks a file.
        ExportError: a file is damaged.
    """
    inputs = {"folder": folder_digest(source.folder), "code": code_digest(__name__)}

    def make(folder: Path) -> None:
        write_whisper(source.folder, folder)

    title = f"Turning {source.origin} into a model folder"
    return replace(source, folder=cache.get("model", inputs, title=title, make=make))
