"""A recipe, read and checked whole before anything runs."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.errors import ExportError
from exporters.pipeline.options import CommandOptions, near
from exporters.pipeline.stages import AT_ONCE, BY_PARTS, STAGE_NAMES, STAGES, Kind, Stage

NEEDED = ("base", "name", "work")
SHARED = (*NEEDED, "revision")

Parsers = Mapping[str, argparse.ArgumentParser]
"""The parser of every command, by its name."""
Table = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A stage, and the arguments that its command shall run with."""

    name: str
    arguments: argparse.Namespace


def read_plan(path: Path, parsers: Parsers) -> list[Planned]:
    """The stages of a recipe in their order.

    Raises:
        ExportError: it is no recipe, or a stage's arguments do not do. The file and key are named.
        OSError: it cannot be read.
    """
    recipe = _read(path)
    shared = _shared(recipe, path)
    stages = [stage for stage in STAGES if stage.name in recipe]
    if not stages:
        raise ExportError(f"{path} has no stage; the stages are {', '.join(STAGE_NAMES)}")
    made_of = next((name for name in ("export", AT_ONCE) if name in recipe), None)
    if "train" in recipe and made_of is not None and "merge" not in recipe:
        raise ExportError(
            f"{path}: [train] and [{made_of}] without [merge]: what is learnt would be in no bundle"
        )
    if AT_ONCE in recipe and not recipe.keys().isdisjoint(BY_PARTS):
        raise ExportError(
            f"{path}: [{AT_ONCE}] makes the bundle that [export] and [package] make; leave one out"
        )
    made: dict[Kind, str] = {Kind.BASE: shared["base"], Kind.MODEL: shared["base"]}
    return [_planned(stage, recipe[stage.name], (shared, made, path), parsers) for stage in stages]


def _read(path: Path) -> Table:
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: {error}") from error
    for key, value in recipe.items():
        if key not in SHARED + STAGE_NAMES:
            raise ExportError(f"{path}: unknown key {key!r}{near(key, SHARED + STAGE_NAMES)}")
        if key in STAGE_NAMES and not isinstance(value, dict):
            raise ExportError(f"{path}: {key} is the table of a stage: write [{key}]")
    return recipe


def _shared(recipe: Table, path: Path) -> dict[str, str]:
    for key in NEEDED:
        if key not in recipe:
            raise ExportError(f"{path}: no {key} at the top")
    shared = {key: recipe[key] for key in SHARED if key in recipe}
    for key, value in shared.items():
        if not isinstance(value, str) or not value:
            raise ExportError(f"{path}: {key} is a text")
    return shared


def _planned(
    stage: Stage,
    table: Table,
    around: tuple[dict[str, str], dict[Kind, str], Path],
    parsers: Parsers,
) -> Planned:
    """The stage; what it will have made is entered in `made`."""
    shared, made, path = around
    if stage.name not in parsers:
        raise ExportError(f"{path}: this nsedge-export has no command {stage.name}")
    options = CommandOptions(parsers[stage.name], where=f"{path}: [{stage.name}]")
    defaults = {option: made[kind] for option, kind in stage.takes.items() if kind in made}
    if options.knows("name"):
        defaults["name"] = shared["name"]
    takes_base = shared["base"] in defaults.values()
    if takes_base and "revision" in shared and options.knows("revision"):
        defaults["revision"] = shared["revision"]
    if stage.gives is not None:
        work = Path(shared["work"])
        defaults[stage.out] = str(stage.output(work, shared["name"]))
    arguments = options.namespace(table, defaults)
    if stage.gives is not None:
        made[stage.gives] = str(options.value(arguments, stage.out))
    return Planned(name=stage.name, arguments=arguments)
