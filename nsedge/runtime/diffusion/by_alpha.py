"""Schedulers that go from timestep to timestep by what is left of the picture: DDIM, DDPM, LCM."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from nsedge.errors import InvalidParameter
from nsedge.runtime.diffusion.noise import Floats
from nsedge.runtime.diffusion.options import Options
from nsedge.runtime.diffusion.scheduler import Noise, Scheduler, over, single
from nsedge.runtime.diffusion.spacing import spaced

SIGMA_DATA = 0.5
"""The spread of pictures that consistency models reckon with."""
_LEAST_VARIANCE = 1e-20


class AlphaScheduler(Scheduler):
    """Visits whole timesteps."""

    def __init__(self, options: Options, steps: int) -> None:
        super().__init__(options, steps)
        self.timesteps = self.visited().round()
        if self.timesteps.max() >= options.num_train_timesteps:
            raise self.too_many()
        self.final_alpha = 1.0 if options.set_alpha_to_one else float(self.alphas[0])

    def visited(self) -> Any:
        """The timesteps."""
        return spaced(self.options, self.steps)

    def noised(self, picture: Floats, noise: Floats) -> Floats:
        alpha = self.alpha(int(self.timesteps[self.at]))
        return single(alpha**0.5) * picture + single((1 - alpha) ** 0.5) * noise

    def alpha(self, timestep: int) -> float:
        """What is left of the picture's power; before the first timestep, what is so at the end."""
        return float(self.alphas[timestep]) if timestep >= 0 else self.final_alpha

    def original(self, output: Floats, sample: Floats, alpha: float) -> Floats:
        """The picture that the model foresees, in its bounds."""
        root, rest = single(alpha**0.5), single((1 - alpha) ** 0.5)
        match self.options.prediction_type:
            case "epsilon":
                foreseen = over(sample - rest * output, alpha**0.5)
            case "sample":
                foreseen = output
            case _:
                foreseen = root * sample - rest * output
        self.foreseen = self.kept(foreseen)
        return self.foreseen


class DdimScheduler(AlphaScheduler):
    """Denoising diffusion implicit models (arXiv 2010.02502), formula 12 without new noise."""

    defaults: ClassVar = {"clip_sample": True, "timestep_spacing": "leading"}

    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        options = self.options
        timestep = int(self.timesteps[self.at])
        alpha = self.alpha(timestep)
        before = self.alpha(timestep - options.num_train_timesteps // self.steps)
        self.at += 1
        original = self.original(output, sample, alpha)
        root, rest = single(alpha**0.5), single((1 - alpha) ** 0.5)
        match options.prediction_type:
            case "epsilon":
                epsilon = output
            case "sample":
                epsilon = over(sample - root * original, (1 - alpha) ** 0.5)
            case _:
                epsilon = root * output + rest * sample
        return single(before**0.5) * original + single((1 - before) ** 0.5) * epsilon


class DdpmScheduler(AlphaScheduler):
    """Denoising diffusion probabilistic models (arXiv 2006.11239), formula 7."""

    defaults: ClassVar = {"clip_sample": True, "timestep_spacing": "leading"}

    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        timestep = int(self.timesteps[self.at])
        is_last = self.at + 1 == len(self.timesteps)
        alpha = self.alpha(timestep)
        before = 1.0 if is_last else self.alpha(int(self.timesteps[self.at + 1]))
        self.at += 1
        kept = alpha / before
        original = self.original(output, sample, alpha)
        mean = single(before**0.5 * (1 - kept) / (1 - alpha)) * original
        mean += single(kept**0.5 * (1 - before) / (1 - alpha)) * sample
        if timestep <= 0:
            return mean
        variance = max((1 - before) / (1 - alpha) * (1 - kept), _LEAST_VARIANCE)
        if self.options.variance_type == "fixed_large":
            variance = 1 - kept
        return mean + single(variance**0.5) * noise()


class LcmScheduler(AlphaScheduler):
    """Latent consistency models (arXiv 2310.04378): each step foresees the picture, and all but the
    last put noise on it again."""

    defaults: ClassVar = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "timestep_spacing": "leading",
    }

    def visited(self) -> Any:
        """Timesteps among those that it was distilled with."""
        options = self.options
        taught = options.original_inference_steps
        if self.steps > taught:
            raise InvalidParameter(
                f"steps must be {taught} at most with the scheduler {self.title()}, not"
                f" {self.steps}",
                param="steps",
            )
        step = options.num_train_timesteps // taught
        among = (np.arange(1, taught + 1) * step - 1)[::-1]
        chosen = np.floor(np.linspace(0, taught, self.steps, endpoint=False)).astype(np.int64)
        return among[chosen].astype(np.float64)

    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        timestep = int(self.timesteps[self.at])
        is_last = self.at + 1 == len(self.timesteps)
        alpha = self.alpha(timestep)
        scaled = timestep * self.options.timestep_scaling
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        out = scaled / (scaled**2 + SIGMA_DATA**2) ** 0.5
        denoised = single(out) * self.original(output, sample, alpha) + single(skip) * sample
        self.at += 1
        if is_last:
            return denoised
        after = self.alpha(int(self.timesteps[self.at]))
        return single(after**0.5) * denoised + single((1 - after) ** 0.5) * noise()
