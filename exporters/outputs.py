"""A stage's result where the user wants it: all at once, and not made twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from exporters.cache import new_directory
from exporters.errors import ExportError
from nsedge.bundle.files import sha256_of

RECORD_FILE = "nsedge-stage.json"


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a finished directory: the stage, the key of all that made it, its files."""

    stage: str
    key: str
    files: dict[str, str]
    """Path below the directory to SHA-256."""


def read_output(folder: Path) -> Output | None:
    """The record of a finished stage in `folder`, if there is one."""
    try:
        return msgspec.json.decode((folder / RECORD_FILE).read_bytes(), type=Output)
    except (OSError, msgspec.DecodeError):
        return None


def is_finished(folder: Path, stage: str, key: str) -> bool:
    """Whether `folder` holds what `key` makes, every file as it was written."""
    known = read_output(folder)
    return known is not None and (known.stage, known.key, known.files) == (
        stage,
        key,
        _hashes(folder),
    )


@contextmanager
def output_directory(folder: Path, stage: str, key: str, *, replace: bool) -> Iterator[Path]:
    """An empty directory that takes the name `folder` when it is left without an error.

    An earlier result of the same stage is replaced; anything else needs `replace`.

    Raises:
        ExportError: another thing is at `folder`.
    """
    check_replaceable(folder, stage, replace=replace)
    with new_directory(folder) as building:
        yield building
        record = Output(stage=stage, key=key, files=_hashes(building))
        (building / RECORD_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(record)))


def check_replaceable(folder: Path, stage: str, *, replace: bool) -> None:
    """To be asked before long work, too.

    Raises:
        ExportError: at `folder` is something other than a result of `stage`.
    """
    known = read_output(folder)
    if folder.exists() and not replace and (known is None or known.stage != stage):
        raise ExportError(f"{folder} is there already and is another thing; --force replaces it")


def stage_key(inputs: object) -> str:
    """A name for all that decides a result; `inputs` must be plain data."""
    return hashlib.sha256(msgspec.json.encode(inputs, order="deterministic")).hexdigest()[:24]


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD_FILE
    }
