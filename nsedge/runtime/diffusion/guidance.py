"""Classifier-free guidance (arXiv 2207.12598): away from what the model makes of no prompt, or of
a negative one, towards what it makes of the prompt."""

from __future__ import annotations

import numpy as np

from nsedge.runtime.diffusion.noise import Floats


def guided(without: Floats, prompted: Floats, scale: float, rescale: float = 0.0) -> Floats:
    """The output that is gone by, of the model's two. `rescale`, 0 to 1, is how far its spread is
    brought back to that of the prompt's output (section 3.4 of arXiv 2305.08891)."""
    made = without + np.float32(scale) * (prompted - without)
    if rescale <= 0:
        return made
    spread = float(made.std(dtype=np.float64))
    if spread == 0:
        return made
    ratio = float(prompted.std(dtype=np.float64)) / spread
    return made * np.float32(rescale * ratio + (1 - rescale))
