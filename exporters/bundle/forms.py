"""The forms that a bundle has of an exported graph, and which of them are near enough to fp32.

Limits that nobody asked for are there to choose by: a form that does not keep them is left out, or
another scheme is taken. What somebody asked for is kept, or nothing is made.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from exporters.graph.records import (
    GRAPH_FILE,
    NATIVE_FILE,
    NATIVE_SUFFIX,
    Exported,
    ExportedVariant,
    Trial,
    native_form,
)
from exporters.measure.thresholds import Overrides, asked_for, limits_of
from exporters.measure.verdict import Check
from exporters.quantise.schemes import promise_of
from nsedge.bundle.causal_lm import Variant
from nsedge.native import REQUIREMENT


def forms_of(made: ExportedVariant) -> tuple[tuple[Variant, Trial], ...]:
    """What a manifest says of each form, and what was found of it.

    The faster one comes first: a daemon takes the first that it can run.
    """
    kv = made.kv
    if kv.scales is not None:
        kv = msgspec.structs.replace(kv, scales=f"{made.name}/{kv.scales}")
    standard = Variant(
        name=made.name,
        device=made.device,
        scheme=made.scheme,
        graph=f"{made.name}/{GRAPH_FILE}",
        io=made.io,
        kv=kv,
        fidelity=made.trial.fidelity,
    )
    if made.native is None:
        return ((standard, made.trial),)
    io, kv = native_form(made.io, kv)
    native = msgspec.structs.replace(
        standard,
        name=f"{made.name}{NATIVE_SUFFIX}",
        graph=f"{made.name}/{NATIVE_FILE}",
        requires=(REQUIREMENT,),
        io=io,
        kv=kv,
        fidelity=made.native.fidelity,
    )
    return (native, made.native), (standard, made.trial)


def checks_of(made: ExportedVariant, overrides: Overrides) -> tuple[Check, ...]:
    """Each form under its limits."""
    return tuple(_check(variant, trial, overrides) for variant, trial in forms_of(made))


def _check(variant: Variant, trial: Trial, overrides: Overrides) -> Check:
    return Check(
        variant=variant.name,
        limits=limits_of(variant.name, promise_of(variant), overrides),
        golden=trial.golden,
        recorded=trial.fidelity,
        measured=None,
        answers=trial.answers,
    )


def shortfall(check: Check, overrides: Overrides) -> str | None:
    """What a form does not keep, and nobody asked for; None where it keeps all that, or where it
    fails in what somebody asked for, too."""
    asked = asked_for(check.variant, overrides)
    if check.under({m: limit for m, limit in check.limits.items() if m in asked}):
        return None
    rest = {m: limit for m, limit in check.limits.items() if m not in asked}
    return "; ".join(check.under(rest)) or None


def without_far_forms(exported: Exported, overrides: Overrides) -> Exported:
    """The same without native forms that fall short of limits nobody asked for, and why."""
    variants, notes = [], list(exported.notes)
    for made in exported.variants:
        reason = _why_no_native(made, overrides)
        if reason is not None:
            made = msgspec.structs.replace(made, native=None, native_lacks=reason, evened={})
            notes.append(f"{made.name} without its native form: {reason}")
        variants.append(made)
    return msgspec.structs.replace(exported, variants=tuple(variants), notes=tuple(notes))


def _why_no_native(made: ExportedVariant, overrides: Overrides) -> str | None:
    if made.native is None:
        return None
    native, standard = checks_of(made, overrides)
    reason = shortfall(native, overrides)
    if reason is None or standard.fidelity is None:
        return None
    return f"{reason} (the standard form's kl is {standard.fidelity.kl:.4g})"


def notes_on(variants: Iterable[ExportedVariant]) -> tuple[str, ...]:
    """What was done to the native forms of `variants` that does not show in their names."""
    return tuple(
        f"{made.name}{NATIVE_SUFFIX} evens out keys before it caches them in 8 bits, in layers"
        f" {', '.join(map(str, made.evened))}: a channel was up to {max(made.evened.values()):g}"
        " times as large as the median"
        for made in variants
        if made.native is not None and made.evened
    )
