"""The noise that a model was taught: how much there is of it, and of the picture, at each timestep.

Numbers are those of diffusers, which has betas and their products in float32.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.diffusion.options import Options

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MAX_BETA = 0.999
LEAST_ALPHA = 2.0**-24
"""In the place of no picture at all, where a scheduler divides by what there is of it."""


def betas_of(options: Options) -> Floats:
    """The noise that each timestep adds, float32 [num_train_timesteps].

    squaredcos_cap_v2 is Nichol and Dhariwal's cosine schedule (arXiv 2102.09672).
    """
    count = options.num_train_timesteps
    if options.trained_betas is not None:
        betas = np.array(options.trained_betas, np.float32)
    elif options.beta_schedule == "linear":
        betas = np.linspace(options.beta_start, options.beta_end, count).astype(np.float32)
    elif options.beta_schedule == "scaled_linear":
        start, end = math.sqrt(options.beta_start), math.sqrt(options.beta_end)
        betas = np.linspace(start, end, count).astype(np.float32) ** 2
    else:
        left = [_cosine(at / count) for at in range(count + 1)]
        pairs = zip(left[1:], left[:-1], strict=True)
        betas = np.array([min(1 - new / old, MAX_BETA) for new, old in pairs], np.float32)
    return _without_rest(betas) if options.rescale_betas_zero_snr else betas


def alphas_of(betas: Floats) -> Doubles:
    """What is left of the picture's power at each timestep: the product of 1 - beta."""
    products = np.cumprod((np.float32(1) - betas).astype(np.float64))
    return products.astype(np.float32).astype(np.float64)


def sigmas_of(alphas: Doubles) -> Doubles:
    """The noise beside a picture of full strength, at each timestep."""
    left = alphas.astype(np.float32)
    return np.asarray(np.sqrt((1 - left) / left), np.float64)


def _cosine(at: float) -> float:
    return math.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2


def _without_rest(betas: Floats) -> Floats:
    """Betas that leave nothing of the picture at the last timestep, and as much as before at the
    first (algorithm 1 of arXiv 2305.08891)."""
    roots = np.sqrt(alphas_of(betas).astype(np.float32))
    first, last = roots[0].copy(), roots[-1].copy()
    roots = (roots - last) * (first / (first - last))
    products = roots**2
    alphas = np.concatenate([products[:1], products[1:] / products[:-1]])
    return np.asarray(1 - alphas, np.float32)
