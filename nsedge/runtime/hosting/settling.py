"""A request's sampling and a bundle's defaults to the parameters of a row."""

from __future__ import annotations

import dataclasses
from typing import Any

from nsedge.api import AdaptiveP, Dry, DynamicTemperature, SamplerStep, Sampling, Xtc
from nsedge.api.steps import DEFAULT_ORDER
from nsedge.bundle.causal_lm import GenerationDefaults
from nsedge.errors import InvalidParameter
from nsedge.runtime.decode.sampling.params import SamplingParams

_OF_STEP: dict[SamplerStep, tuple[str, ...]] = {
    SamplerStep.PENALTIES: ("repetition_penalty", "presence_penalty", "frequency_penalty"),
    SamplerStep.TEMPERATURE: ("temperature", "dynamic_temperature"),
}
"""The parameters of a step, where they are not its own name alone."""
_FILTERS = ("top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc", "adaptive_p", "min_keep")
_DRAWN = ("temperature", "dynamic_temperature", *_FILTERS, "mirostat")
"""What decides how a token is drawn."""
_UNSEARCHED = (*_DRAWN, "dry", "samplers")
"""What has no place in a beam search."""
_SILENT = Sampling()
_NEUTRAL = {each.name: each.default for each in dataclasses.fields(SamplingParams)}


def settle(sampling: Sampling, defaults: GenerationDefaults) -> SamplingParams:
    """The request's values, and the bundle's where it gives none; both keep the same bounds.

    Steps that an order leaves out are neutral, and so are all filters beside mirostat. Beams take
    what is likeliest: where there are some, a bundle's advice on drawing does not count.

    Raises:
        InvalidParameter: the request says how to draw, or has DRY, and wants beams.
    """
    if sampling.beams > 1:
        _check_searched(sampling)
    order = DEFAULT_ORDER if sampling.samplers is None else sampling.samplers
    given = {name: _given(name, sampling, defaults) for name in _NEUTRAL if name != "order"}
    left_out = [
        name
        for step in SamplerStep
        if step not in order
        for name in _OF_STEP.get(step, (step.value,))
    ]
    if given["mirostat"] is not None:
        left_out += _FILTERS
    neutral = {name: _NEUTRAL[name] for name in left_out}
    if sampling.beams > 1:
        neutral |= {name: _NEUTRAL[name] for name in _DRAWN} | {"temperature": 0.0}
    return SamplingParams(order=order, **(given | neutral))


def says_how(sampling: Sampling) -> bool:
    """Whether a request says anything of how tokens are chosen."""
    said = (getattr(sampling, name) != getattr(_SILENT, name) for name in _UNSEARCHED)
    return sampling.beams > 1 or any(said)


def _check_searched(sampling: Sampling) -> None:
    for name in _UNSEARCHED:
        value = getattr(sampling, name)
        neutral = 0.0 if name == "temperature" else _NEUTRAL.get(name)
        if value is not None and not _is_off(value) and value != neutral:
            raise InvalidParameter(
                f"{name} has no place in a beam search, which draws nothing", param=name
            )


def _given(name: str, sampling: Sampling, defaults: GenerationDefaults) -> Any:
    value = getattr(sampling, name)
    if value is None:
        value = getattr(defaults, name, _NEUTRAL[name])
    return None if _is_off(value) else value


def _is_off(value: Any) -> bool:
    """Whether a step of more than one number changes nothing."""
    match value:
        case DynamicTemperature(range=0.0) | Xtc(probability=0.0) | Dry(multiplier=0.0):
            return True
        case Dry(penalty_last_n=0):
            return True
        case AdaptiveP(target=target):
            return target < 0.0
    return False
