"""Which base a stage of fine-tuning works on: the named one, the noted one, or the starter.

`dataset`, `train` and `merge` take `--base`. Where it is not given, it is the base that the stage
before worked on, and where no stage has one, the starter. What a stage writes names its base by
origin and revision; where a base lies that is a mere folder, the exporters' cache remembers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.cache import Cache
from exporters.errors import ExportError
from exporters.finetune.examples import report_path
from exporters.finetune.report import read_report
from exporters.model.source import Source
from exporters.model.vision_sources import is_vision_lm, vision_source

if TYPE_CHECKING:
    from exporters.finetune.adapters import Adapter

PLACES = "bases"


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What an earlier stage says of its base. `by` names the result that says so."""

    by: str
    origin: str
    revision: str | None = None
    key: str | None = None
    """By which the cache may know where it lies."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A base, and why it was taken."""

    source: Source
    why: str

    def result(self) -> dict[str, str]:
        """For programs."""
        return {"base": self.source.origin, "base_chosen": self.why}

    def line(self) -> str:
        """For people."""
        return f"  base: {self.source.origin}, {self.why}"


def add_base(parser: argparse.ArgumentParser) -> None:
    """--base and --revision."""
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="the base: a model folder, or a hub's ORG/NAME (default: that of the stage before;"
        " the starter where there was none)",
    )
    parser.add_argument("--revision", help="branch, tag or commit of the base on the hub")


def choose_base(arguments: argparse.Namespace, cache: Cache, noted: Noted | None = None) -> Chosen:
    """The base that `add_base` was given, or else the noted one, or else the starter.

    Raises:
        ExportError: there is no such model, or the noted one is not where it was.
    """
    from exporters.bundle.starter_folder import ORIGIN, REVISION, starter_source
    from exporters.model.hub import find_source

    if arguments.base is not None:
        source = find_source(arguments.base, arguments.revision)
        return Chosen(source=_with_eyes(source), why="as named")
    if arguments.revision is not None:
        raise ExportError("--revision is of a --base on the hub; name that, too")
    if noted is None:
        chosen = Chosen(source=starter_source(cache), why="the starter, since none was named")
    elif (noted.origin, noted.revision) == (ORIGIN, REVISION):
        chosen = Chosen(source=starter_source(cache), why=f"the starter, as {noted.by} notes")
    else:
        source = _with_eyes(_noted_source(noted, cache))
        chosen = Chosen(source=source, why=f"as {noted.by} notes")
    cache.progress.note(f"Base: {chosen.source.origin}, {chosen.why}")
    return chosen


def _with_eyes(source: Source) -> Source:
    """The folder of a model that sees, as such; any other as it is."""
    return vision_source(source) if is_vision_lm(source) else source


def _noted_source(noted: Noted, cache: Cache) -> Source:
    from exporters.model.hub import HUB_ID, find_source

    place = None if noted.key is None else _remembered(cache, noted.key)
    if place is not None:
        return Source(folder=place, origin=noted.origin, revision=noted.revision)
    if HUB_ID.fullmatch(noted.origin) or (noted.key is None and Path(noted.origin).is_dir()):
        return find_source(noted.origin, noted.revision)
    raise ExportError(
        f"{noted.by} was made for {noted.origin}, and where that lies is not known here; name it"
        " with --base"
    )


def remember_base(cache: Cache, key: str, source: Source) -> None:
    """Keep where a base lies, for later stages that know it by `key`."""
    folder = cache.root / PLACES
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w") as file:
        file.write(str(source.folder))
    os.replace(temporary, folder / key)


def _remembered(cache: Cache, key: str) -> Path | None:
    try:
        place = Path((cache.root / PLACES / key).read_text())
    except OSError:
        return None
    return place if place.is_dir() else None


def noted_by_dataset(train: Path) -> Noted | None:
    """What the report beside a dataset says of its base."""
    report = read_report(report_path(train))
    if report is None:
        return None
    return Noted(by=train.name, origin=report.base, revision=report.revision, key=report.key)


def noted_by_adapters(adapters: Iterable[Adapter]) -> Noted | None:
    """What the first adapter says of its base that says anything.

    Raises:
        ExportError: an adapter is damaged.
    """
    for adapter in adapters:
        if adapter.lineage is not None:
            base = adapter.lineage.base
            return Noted(
                by=f"adapter {adapter.name}",
                origin=base.origin,
                revision=base.revision,
                key=base.weights_sha256,
            )
        if (origin := adapter.lora.config.base) is not None:
            return Noted(by=f"adapter {adapter.name}", origin=origin)
    return None
