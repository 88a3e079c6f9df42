"""Steps of sampling as flat interfaces name them, HTTP bodies and flags: llama.cpp's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar

from nsedge.api.steps import AdaptiveP, Dry, DynamicTemperature, Mirostat, SamplerStep, Xtc
from nsedge.errors import InvalidParameter

V = TypeVar("V")

NAMES: dict[str, SamplerStep] = {
    **{step.value: step for step in SamplerStep},
    "typ_p": SamplerStep.TYPICAL_P,
    "typical": SamplerStep.TYPICAL_P,
    "nucleus": SamplerStep.TOP_P,
    "temp": SamplerStep.TEMPERATURE,
}
"""Of steps in an order; `-` is as good as `_`."""
LETTERS = {
    "e": SamplerStep.PENALTIES,
    "d": SamplerStep.DRY,
    "s": SamplerStep.TOP_N_SIGMA,
    "k": SamplerStep.TOP_K,
    "y": SamplerStep.TYPICAL_P,
    "p": SamplerStep.TOP_P,
    "m": SamplerStep.MIN_P,
    "x": SamplerStep.XTC,
    "t": SamplerStep.TEMPERATURE,
    "a": SamplerStep.ADAPTIVE_P,
}
"""The same, a letter each."""
FLAT_NAMES = {
    "dynamic_temperature.range": "dynatemp_range",
    "dynamic_temperature.exponent": "dynatemp_exponent",
    "xtc.probability": "xtc_probability",
    "xtc.threshold": "xtc_threshold",
    "dry.multiplier": "dry_multiplier",
    "dry.base": "dry_base",
    "dry.allowed_length": "dry_allowed_length",
    "dry.penalty_last_n": "dry_penalty_last_n",
    "dry.sequence_breakers": "dry_sequence_breakers",
    "mirostat.tau": "mirostat_tau",
    "mirostat.eta": "mirostat_eta",
    "adaptive_p.target": "adaptive_target",
    "adaptive_p.decay": "adaptive_decay",
}
"""Of the parameters of steps that have more than one."""


class Steps(TypedDict, total=False):
    """Fields of `Sampling`."""

    dynamic_temperature: DynamicTemperature
    xtc: Xtc
    dry: Dry
    mirostat: Mirostat
    adaptive_p: AdaptiveP


def order_of(samplers: str | list[str]) -> tuple[SamplerStep, ...]:
    """The order that a list of names says, or a text of letters.

    Raises:
        InvalidParameter: naming the one that is none.
    """
    if isinstance(samplers, str):
        known, said = LETTERS, list(samplers)
    else:
        known, said = NAMES, [name.lower().replace("-", "_") for name in samplers]
    for name in said:
        if name not in known:
            message = f"samplers: {name[:64]!r} is none of {', '.join(known)}"
            raise InvalidParameter(message, param="samplers")
    return tuple(known[name] for name in said)


def steps_of(flat: Mapping[str, Any]) -> Steps:
    """The steps that `flat` names the parameters of, without those that are off.

    Raises:
        InvalidParameter: a version of mirostat that there is not.
    """
    steps: Steps = {}
    if flat["dynatemp_range"]:
        steps["dynamic_temperature"] = _made(DynamicTemperature, "dynamic_temperature", flat)
    if flat["xtc_probability"]:
        steps["xtc"] = _made(Xtc, "xtc", flat)
    if flat["dry_multiplier"]:
        steps["dry"] = _made(Dry, "dry", flat)
    if flat["adaptive_target"] is not None and not flat["adaptive_target"] < 0.0:
        steps["adaptive_p"] = _made(AdaptiveP, "adaptive_p", flat)
    if (version := flat["mirostat"]) == 2:
        steps["mirostat"] = _made(Mirostat, "mirostat", flat)
    elif version:
        message = f"mirostat {version} is not supported; 2 is, and 0 is off"
        raise InvalidParameter(message, param="mirostat")
    return steps


def _made(kind: type[V], step: str, flat: Mapping[str, Any]) -> V:
    """A step with what is given of its parameters."""
    given = {}
    for name, here in FLAT_NAMES.items():
        of, _, parameter = name.partition(".")
        if of == step and (value := flat[here]) is not None:
            given[parameter] = tuple(value) if isinstance(value, list) else value
    return kind(**given)
