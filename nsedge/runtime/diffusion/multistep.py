"""What DPM-Solver and UniPC have in common: they know what the model gave in the steps before, and
reckon in the logarithm of picture over noise."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from nsedge.runtime.diffusion.noise import LEAST_ALPHA, Doubles, Floats, sigmas_of
from nsedge.runtime.diffusion.options import Options
from nsedge.runtime.diffusion.scheduler import Scheduler, over, single
from nsedge.runtime.diffusion.spacing import (
    is_resized,
    last_sigma,
    resized,
    spaced_and_end,
    timesteps_of,
)


class MultistepScheduler(Scheduler):
    """The noise of each call is in `sigmas`, beside a picture of full strength; samples have that
    picture's strength and noise with the power 1 together."""

    lacks: ClassVar = ("clip_sample",)
    heeds: ClassVar[tuple[str, ...]] = (
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "final_sigmas_type",
    )

    def __init__(self, options: Options, steps: int) -> None:
        super().__init__(options, steps)
        if options.rescale_betas_zero_snr:
            self.alphas[-1] = LEAST_ALPHA
        taught = sigmas_of(self.alphas)
        if is_resized(options):
            sigmas = resized(options, taught[::-1], steps)
            self.timesteps = self.rounded(timesteps_of(sigmas, taught))
        else:
            self.timesteps = spaced_and_end(options, steps, self.last_timestep())
            sigmas = np.interp(self.timesteps, np.arange(len(taught)), taught)
        if not (np.diff(sigmas) < 0).all():
            raise self.too_many()
        self.sigmas = np.append(sigmas, self.end_of(sigmas)).astype(np.float32).astype(np.float64)

    def last_timestep(self) -> int:
        """How many timesteps there are that may be visited."""
        return self.options.num_train_timesteps

    def rounded(self, timesteps: Doubles) -> Doubles:
        """Timesteps that were found for given noise, as the model is given them: whole ones."""
        return np.trunc(timesteps if self.options.use_exponential_sigmas else timesteps.round())

    def end_of(self, sigmas: Doubles) -> float:
        """The noise that is left at the end."""
        return last_sigma(self.options, self.alphas)

    def noised(self, picture: Floats, noise: Floats) -> Floats:
        strength, spread = self.strengths(self.at)
        return single(strength) * picture + single(spread) * noise

    def strengths(self, at: int) -> tuple[float, float]:
        """How strong picture and noise are before call `at`."""
        sigma = float(self.sigmas[at])
        strength = 1 / (sigma**2 + 1) ** 0.5
        return strength, sigma * strength

    def log_ratio(self, at: int) -> float:
        """The logarithm of picture over noise before call `at`: infinite where no noise is left."""
        sigma = float(self.sigmas[at])
        return -math.log(sigma) if sigma > 0 else math.inf

    def original(self, output: Floats, sample: Floats) -> Floats:
        """The picture that the model foresees, in its bounds."""
        (left, spread_now), prediction = self.strengths(self.at), self.options.prediction_type
        strength, spread = single(left), single(spread_now)
        match prediction:
            case "epsilon":
                foreseen = over(sample - spread * output, left)
            case "sample":
                foreseen = output
            case _:
                foreseen = strength * sample - spread * output
        self.foreseen = self.kept(foreseen)
        return self.foreseen
