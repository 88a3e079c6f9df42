"""Steps of sampling as flat interfaces name them, HTTP bodies and flags: llama.cpp's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar

from nsedge.api.steps import AdaptiveP, Dry, DynamicTemperature, Mirostat, SamplerStep, Xtc
from nsedge.errors import InvalidParameter

V = TypeVar("V", DynamicTemperature, Xtc, Dry, Mirostat, AdaptiveP)

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
_STEPS: dict[type, str] = {
    DynamicTemperature: "dynamic_temperature",
    Xtc: "xtc",
    Dry: "dry",
    Mirostat: "mirostat",
    AdaptiveP: "adaptive_p",
}


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
    """The steps that `flat` names the parameters of, without those that are off; what is given of
    these is held to its bounds, too.

    Raises:
        InvalidParameter: a value out of range, named as `FLAT_NAMES` has it; a version of mirostat
            that there is not.
    """
    steps: Steps = {}
    if (dynamic := _made(DynamicTemperature, flat, range=0.0)) is not None and dynamic.range:
        steps["dynamic_temperature"] = dynamic
    if (xtc := _made(Xtc, flat, probability=0.0)) is not None and xtc.probability:
        steps["xtc"] = xtc
    if (dry := _made(Dry, flat, multiplier=0.0)) is not None and dry.multiplier:
        steps["dry"] = dry
    if (adaptive := _made(AdaptiveP, flat, target=-1.0)) is not None and adaptive.target >= 0.0:
        steps["adaptive_p"] = adaptive
    mirostat, version = _made(Mirostat, flat), flat["mirostat"]
    if version == 2:
        steps["mirostat"] = mirostat or Mirostat()
    elif version:
        message = f"mirostat {version} is not supported; 2 is, and 0 is off"
        raise InvalidParameter(message, param="mirostat")
    return steps


def _made(kind: type[V], flat: Mapping[str, Any], **off: float) -> V | None:
    """A step with what is given of its parameters, and where that is nothing `off`; None where
    nothing is given at all."""
    given: dict[str, Any] = {}
    for name, here in FLAT_NAMES.items():
        step, _, parameter = name.partition(".")
        if step == _STEPS[kind] and (value := flat[here]) is not None:
            given[parameter] = tuple(value) if isinstance(value, list) else value
    if not given:
        return None
    made = kind(**off | given)
    try:
        made.check()
    except InvalidParameter as error:
        dotted = error.param or ""
        name = FLAT_NAMES[dotted]
        raise InvalidParameter(error.message.replace(dotted, name), param=name) from error
    return made
