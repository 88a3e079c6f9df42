"""The bundle of an encoder and a decoder, of what their stages made, and the report on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from exporters.bundle.orders import VariantOrder
from exporters.bundle.package import (
    GOLDEN_FILE,
    TOKENIZER_FILE,
    Contents,
    check_place,
    entries,
    provenance,
    settle,
    write_bundle,
)
from exporters.cache import Cache
from exporters.conditioned.records import ConditionedRecord, Form, graph_files, judged
from exporters.conditioned.stages import LIBRARIES, VariantStages, folders_of
from exporters.conditioned.verdict import MEASURED, ConditionedVerdict, Promises, verdict_page
from exporters.measure.build_report import REPORT_FILE, REPORT_PAGE
from exporters.measure.findings import verdict_json
from exporters.measure.thresholds import Overrides, check_overrides, form_names
from exporters.model.route import library_versions
from exporters.model.source import LICENCE_FILE, Source
from nsedge.bundle.conditioning import ConditionedVariant, ConditioningVariant
from nsedge.bundle.fields import FORMAT, FORMAT_VERSION

E = TypeVar("E", bound=ConditioningVariant)
D = TypeVar("D", bound=ConditionedVariant)


@dataclass(frozen=True, kw_only=True)
class Made(Generic[E, D]):
    """Graphs that were made: forms, the fastest first; their graphs' directories by variant."""

    record: ConditionedRecord
    libraries: dict[str, str]
    forms: tuple[Form[E, D], ...]
    folders: Mapping[str, Path]


def made_of(record: ConditionedRecord, stages: Iterable[VariantStages]) -> Made[Any, Any]:
    """The graphs of some variants. Raises Refused where a scheme does not fit the model."""
    stages = tuple(stages)
    return Made(
        record=record,
        libraries=library_versions(LIBRARIES),
        forms=tuple(form for one in stages for form in one.forms()),
        folders=folders_of(stages),
    )


@dataclass(frozen=True, kw_only=True)
class Product(ABC, Generic[E, D]):
    """All that a bundle is made of; a kind of model adds what reads its inputs."""

    source: Source
    made: Made[E, D]

    @property
    @abstractmethod
    def promises(self) -> Promises:
        """What its schemes promise."""

    @property
    @abstractmethod
    def golden_samples(self) -> tuple[msgspec.Struct, ...]:
        """What fp32 writes of golden inputs."""

    @property
    def beside(self) -> Mapping[bool, str] | None:
        """A further file of the decoder's in standard operators (False), and on our own (True)."""
        return None

    def more(self) -> Contents:
        """Further files."""
        return {}

    @abstractmethod
    def manifest(self, common: dict[str, Any]) -> Any:
        """The manifest; `common` are the fields that all such bundles have."""


@dataclass(frozen=True, kw_only=True)
class ConditionedReport:
    """The report on a bundle's making. `made` is False where the same bundle was there already;
    `notes` say what of the source is left aside."""

    bundle: Path
    made: bool
    bytes: int
    record: ConditionedRecord
    verdict: ConditionedVerdict
    notes: tuple[str, ...] = ()


def check_export(
    orders: Iterable[VariantOrder],
    source: Source,
    out: Path,
    *,
    name: str,
    overrides: Overrides,
    replace: bool,
) -> None:
    """Refuse limits that are none, and a place that is taken, before any work.

    Raises:
        ExportError: with the reason.
    """
    check_overrides(overrides, form_names(one.name for one in orders), measures=MEASURED)
    check_place(out, name, source.origin, replace=replace)


def package(
    product: Product[Any, Any],
    out: Path,
    *,
    name: str,
    overrides: Overrides,
    replace: bool,
    cache: Cache,
    reference: Path,
) -> ConditionedReport:
    """Write the bundle `name`, unless it is there already; `reference`: the fp32 graphs' directory.

    Raises:
        ExportError: a form is farther from fp32 than it may be, or something else is at `out` and
            `replace` is not set.
    """
    made, source = product.made, product.source
    verdict = judged(
        made.forms,
        product.promises,
        name=name,
        overrides=overrides,
        difference=made.record.difference,
    )
    golden = msgspec.json.encode(product.golden_samples)
    contents: Contents = {
        TOKENIZER_FILE: source.tokenizer_file,
        GOLDEN_FILE: msgspec.json.format(golden, indent=1) + b"\n",
        REPORT_FILE: verdict_json(verdict),
        REPORT_PAGE: verdict_page(verdict).encode(),
        **product.more(),
        **graph_files(made.forms, made.folders, beside=product.beside),
    }
    if (path := source.folder / LICENCE_FILE).is_file():
        contents[LICENCE_FILE] = path
    common = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "provenance": provenance(
            source,
            parameters=source.parameters(),
            libraries=made.libraries,
            overrides=overrides,
        ),
        "files": entries(contents),
    }
    written = write_bundle(out, product.manifest(common), contents, replace=replace)
    return ConditionedReport(
        bundle=out,
        made=written,
        bytes=settle(out, cache, reference),
        record=made.record,
        verdict=verdict,
    )
