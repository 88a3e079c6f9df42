"""How far from fp32 a variant may be before a build, or a check of it, fails."""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterable, Mapping

from exporters.errors import ExportError
from exporters.graph.records import (
    GOLDEN_MAX_DIFFERENCE,
    GOLDEN_MIN_TOP1,
    NATIVE_SUFFIX,
    GoldenResult,
)
from exporters.measure.promise import MIN_POSITIONS, Promise
from nsedge.bundle.causal_lm import Fidelity


class Measure(enum.StrEnum):
    """A measure that can have a limit. PERPLEXITY is how many times fp32's a variant's may be."""

    KL = "kl"
    TOP1 = "top1"
    PERPLEXITY = "perplexity"
    GOLDEN = "golden"
    GOLDEN_DIFFERENCE = "golden_difference"
    COSINE = "cosine"
    COSINE_LEAST = "cosine_least"
    GOLDEN_COSINE = "golden_cosine"
    SCORE_TOP1 = "score_top1"
    SCORE_ERROR = "score_error"
    SCORE_ERROR_MOST = "score_error_most"
    GOLDEN_ERROR = "golden_error"


OF_VECTORS = frozenset({Measure.COSINE, Measure.COSINE_LEAST, Measure.GOLDEN_COSINE})
"""The measures of models that make vectors."""
OF_SCORES = frozenset(
    {Measure.SCORE_TOP1, Measure.SCORE_ERROR, Measure.SCORE_ERROR_MOST, Measure.GOLDEN_ERROR}
)
"""The measures of models that end in a head."""
OF_TEXT = frozenset(Measure) - OF_VECTORS - OF_SCORES
"""The measures of models that write text."""
AT_LEAST = frozenset({Measure.TOP1, Measure.GOLDEN, Measure.SCORE_TOP1, *OF_VECTORS})
"""The other measures are to be at most their limit."""

Limits = dict[Measure, float]
"""Of one variant; a measure that is not in it is told and not judged."""
Overrides = Mapping[str, float]
"""Limits that were asked for: `MEASURE` for all variants, `VARIANT.MEASURE` for one."""


def read_overrides(texts: Iterable[str]) -> dict[str, float]:
    """From `kl=0.02` and `cpu-x4.kl=0.02`; the last of a name holds.

    Raises:
        ExportError: one is no such thing.
    """
    overrides = {}
    for text in texts:
        name, _, number = text.partition("=")
        measure = name.rpartition(".")[2]
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if measure not in set(Measure) or not limit >= 0:
            names = ", ".join(Measure)
            raise ExportError(f"--threshold {text}: [VARIANT.]MEASURE=NUMBER, of {names}")
        overrides[name] = limit
    return overrides


def check_overrides(
    overrides: Overrides, variants: Collection[str], *, measures: frozenset[Measure] = OF_TEXT
) -> None:
    """Refuse limits that would be silently without effect: of a variant that there is none of, or
    of what is none of the `measures` of this kind of model.

    Raises:
        ExportError: naming it.
    """
    for name in overrides:
        variant, _, measure = name.rpartition(".")
        if variant and variant not in variants:
            known = ", ".join(sorted(variants))
            raise ExportError(f"--threshold {name}: no variant {variant}; there are {known}")
        if Measure(measure) not in measures:
            measured = ", ".join(m for m in Measure if m in measures)
            raise ExportError(f"--threshold {name}: this kind of model is measured by {measured}")


def named_in(overrides: Overrides) -> dict[str, str]:
    """The variants that limits are asked of by name, each with the last such limit's."""
    named = {name.rpartition(".")[0]: name for name in overrides}
    return {variant: name for variant, name in named.items() if variant}


def form_names(variants: Iterable[str]) -> set[str]:
    """The names of these variants and of their native forms."""
    return {name + suffix for name in variants for suffix in ("", NATIVE_SUFFIX)}


def limits_of(variant: str, promise: Promise | None, overrides: Overrides) -> Limits:
    """The limits of `variant`: its scheme's promise, where nothing else was asked for.

    What is asked of a variant is asked of its native form, unless that is named itself.
    """
    limits: dict[Measure, float] = {}
    if promise is not None:
        limits = {
            Measure.KL: promise.kl,
            Measure.TOP1: promise.top1,
            Measure.GOLDEN: GOLDEN_MIN_TOP1,
            Measure.GOLDEN_DIFFERENCE: GOLDEN_MAX_DIFFERENCE,
        }
    return limits | asked_for(variant, overrides)


def asked_for(variant: str, overrides: Overrides) -> Limits:
    """Those of `overrides` that `variant` is held to."""
    limits: dict[Measure, float] = {}
    for prefix in ("", f"{variant.removesuffix(NATIVE_SUFFIX)}.", f"{variant}."):
        for measure in Measure:
            if (limit := overrides.get(f"{prefix}{measure}")) is not None:
                limits[measure] = limit
    return limits


def failures(limits: Limits, golden: GoldenResult, fidelity: Fidelity | None) -> list[str]:
    """The limits that do not hold, a line each."""
    found = {Measure.GOLDEN: golden.top1, Measure.GOLDEN_DIFFERENCE: golden.difference}
    if fidelity is not None:
        found[Measure.KL], found[Measure.TOP1] = fidelity.kl, fidelity.top1
        found[Measure.PERPLEXITY] = fidelity.perplexity / fidelity.perplexity_fp32
    told = not_kept(limits, found)
    judged = {Measure.KL, Measure.TOP1, Measure.PERPLEXITY} & limits.keys()
    if judged and fidelity is not None and fidelity.positions < MIN_POSITIONS:
        told.append(f"only {fidelity.positions} positions were measured, of {MIN_POSITIONS}")
    return told


def not_kept(limits: Limits, found: Mapping[Measure, float]) -> list[str]:
    """Which of `limits` does not hold of what was found, a line each."""
    told = []
    for measure, limit in limits.items():
        value = found.get(measure)
        if value is None:
            told.append(f"{measure} was not measured")
        elif not _holds(measure, value, limit):
            bound = "at least" if measure in AT_LEAST else "at most"
            digits = 7 if measure in OF_VECTORS else 4  # cosines of interest are next to 1
            told.append(f"{measure} is {value:.{digits}g}, to be {bound} {limit:.{digits}g}")
    return told


def _holds(measure: Measure, value: float, limit: float) -> bool:
    return value >= limit if measure in AT_LEAST else value <= limit
