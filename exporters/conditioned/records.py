"""What is known of an encoder's and a decoder's graphs; read without the libraries that made
them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from exporters.bundle.choosing import refuse_failures
from exporters.bundle.package import Contents
from exporters.conditioned.samples import Trial
from exporters.conditioned.verdict import ConditionedVerdict, Promises, check_of
from exporters.graph.records import DATA_FILE, GRAPH_FILE, NATIVE_FILE, NATIVE_SUFFIX, Record
from exporters.measure.thresholds import Overrides, asked_for
from nsedge.bundle.conditioning import ConditionedVariant, ConditioningVariant

ENCODER = "encoder"
DECODER = "decoder"
"""The directories of a stage's two graphs, and of a variant's in a bundle."""


class ConditionedRecord(Record, frozen=True, kw_only=True):
    """The fp32 graphs. `difference`: the greatest one from PyTorch in log-probability, in nats;
    `states_difference`: in any number of the encoder's output."""

    difference: float
    states_difference: float
    nodes: dict[str, int]


class ConditionedVariantRecord(Record, frozen=True, kw_only=True):
    """Quantised graphs: nodes by kind, and the bytes of what is not quantised, by purpose."""

    nodes: dict[str, int]
    kept_fp32: dict[str, int]


E = TypeVar("E", bound=ConditioningVariant)
D = TypeVar("D", bound=ConditionedVariant)


@dataclass(frozen=True, kw_only=True)
class Form(Generic[E, D]):
    """A form of a variant: its graphs, and what was found of it."""

    encoder: E
    decoder: D
    trial: Trial[Any]


def graphs_of(folder: Path) -> tuple[Path, Path]:
    """Where the encoder's and the decoder's graph lie in a stage's directory."""
    return folder / ENCODER / GRAPH_FILE, folder / DECODER / GRAPH_FILE


def variant_fields(
    part: str, *, name: str, scheme: str, native: bool, inside: str
) -> dict[str, Any]:
    """What a graph in the directory `part` of the directory `inside` is called, and where it is."""
    file = NATIVE_FILE if native else GRAPH_FILE
    return {
        "name": f"{name}{NATIVE_SUFFIX}" if native else name,
        "device": "cpu",
        "scheme": scheme,
        "graph": f"{inside}/{part}/{file}" if inside else f"{part}/{file}",
    }


def judged(
    forms: Iterable[Form[Any, Any]],
    promises: Promises,
    *,
    name: str,
    overrides: Overrides,
    difference: float,
) -> ConditionedVerdict:
    """How the forms of the bundle `name` are.

    Raises:
        ExportError: one is farther from fp32 than it may be.
    """
    checks = tuple(
        check_of(
            form.decoder.name,
            promises[form.decoder.scheme],
            form.trial,
            asked_for(form.decoder.name, overrides),
        )
        for form in forms
    )
    refuse_failures([(check.variant, reason) for check in checks for reason in check.failures])
    return ConditionedVerdict(
        name=name, checks=checks, skipped={}, overrides=dict(overrides), difference=difference
    )


def graph_files(
    forms: Iterable[Form[Any, Any]],
    folders: Mapping[str, Path],
    *,
    beside: Mapping[bool, str] | None = None,
) -> Contents:
    """The files of all graphs, whose directories are `folders` by variant; `beside`: a further file
    of the decoder's in standard operators (False), and on the daemon's own (True)."""
    natives = {form.decoder.name for form in forms}
    contents: Contents = {}
    for variant, folder in folders.items():
        kinds = [False, True] if f"{variant}{NATIVE_SUFFIX}" in natives else [False]
        for part in (ENCODER, DECODER):
            files = [DATA_FILE, *(NATIVE_FILE if native else GRAPH_FILE for native in kinds)]
            if beside is not None and part == DECODER:
                files += [beside[native] for native in kinds]
            for file in files:
                contents[f"{variant}/{part}/{file}"] = folder / part / file
    return contents
