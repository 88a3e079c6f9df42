"""Which timesteps are visited, and which noise is left at each, for a number of steps."""

from __future__ import annotations

import math

import numpy as np

from nsedge.runtime.diffusion.noise import Doubles
from nsedge.runtime.diffusion.options import Options

RHO = 7.0
"""How Karras et al. (arXiv 2206.00364) crowd steps where little noise is left."""
_LEAST = 1e-10


def spaced(options: Options, steps: int) -> Doubles:
    """`steps` timesteps, the noisiest first, not rounded (table 2 of arXiv 2305.08891)."""
    count = options.num_train_timesteps
    if options.timestep_spacing == "linspace":
        return np.asarray(np.linspace(0, count - 1, steps)[::-1], np.float64)
    if options.timestep_spacing == "leading":
        rising = np.arange(steps, dtype=np.float64) * (count // steps)
        return rising[::-1] + options.steps_offset
    return trailing(count, count / steps)


def spaced_and_end(options: Options, steps: int, last: int) -> Doubles:
    """`steps` whole timesteps below `last`, the noisiest first, for solvers that count the end of
    their way as a step."""
    if options.timestep_spacing == "linspace":
        return np.asarray(np.linspace(0, last - 1, steps + 1).round()[::-1][:-1], np.float64)
    if options.timestep_spacing == "leading":
        ratio = last // (steps + 1)
        rising = np.arange(steps + 1, dtype=np.float64) * ratio
        return rising[::-1][:-1] + options.steps_offset
    return trailing(last, options.num_train_timesteps / steps)


def trailing(last: int, step: float) -> Doubles:
    """From the noisiest timestep down by `step`."""
    return np.asarray(np.round(np.arange(last, 0, -step)) - 1.0, np.float64)


def is_resized(options: Options) -> bool:
    """Whether noise does not follow from timesteps, but they from it."""
    return options.use_karras_sigmas or options.use_exponential_sigmas or options.use_lu_lambdas


def resized(options: Options, sigmas: Doubles, steps: int) -> Doubles:
    """The noise of `steps` steps from the first of `sigmas`, which fall, to the last."""
    if options.use_lu_lambdas:
        logs = np.log(sigmas)
        return np.asarray(np.exp(logs[0] + np.linspace(0, 1, steps) * (logs[-1] - logs[0])))
    low = float(sigmas[-1]) if options.sigma_min is None else options.sigma_min
    high = float(sigmas[0]) if options.sigma_max is None else options.sigma_max
    if options.use_exponential_sigmas:
        return np.asarray(np.exp(np.linspace(math.log(high), math.log(low), steps)))
    ramp = np.linspace(0, 1, steps)
    return np.asarray((high ** (1 / RHO) + ramp * (low ** (1 / RHO) - high ** (1 / RHO))) ** RHO)


def timesteps_of(sigmas: Doubles, taught: Doubles) -> Doubles:
    """Where among the noise that was `taught`, which rises, each of `sigmas` lies, between two
    timesteps in proportion of logarithms."""
    logs = np.log(taught.astype(np.float32))  # as diffusers has it, where a whole one is cut off
    wanted = np.log(np.maximum(sigmas, _LEAST))
    low = np.clip(np.searchsorted(logs, wanted, side="right") - 1, 0, len(logs) - 2)
    share = np.clip((logs[low] - wanted) / (logs[low] - logs[low + 1]), 0, 1)
    return np.asarray((1 - share) * low + share * (low + 1))


def last_sigma(options: Options, alphas: Doubles) -> float:
    """The noise that is left at the end."""
    if options.final_sigmas_type == "zero":
        return 0.0
    return float(np.sqrt((1 - alphas[0]) / alphas[0]))
