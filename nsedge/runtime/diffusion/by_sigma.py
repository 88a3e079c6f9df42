"""Schedulers that follow the noise beside a picture of full strength (arXiv 2206.00364): Euler,
Euler ancestral, Heun."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nsedge.runtime.diffusion.noise import LEAST_ALPHA, Doubles, Floats, sigmas_of
from nsedge.runtime.diffusion.options import Options
from nsedge.runtime.diffusion.scheduler import Noise, Scheduler, over, single
from nsedge.runtime.diffusion.spacing import (
    is_resized,
    last_sigma,
    resized,
    spaced,
    timesteps_of,
)


class SigmaScheduler(Scheduler):
    """The noise of each call is in `sigmas`, with that of the end."""

    lacks: ClassVar = ("clip_sample", "thresholding")

    def __init__(self, options: Options, steps: int) -> None:
        super().__init__(options, steps)
        if options.rescale_betas_zero_snr:
            self.alphas[-1] = LEAST_ALPHA
        self.timesteps, sigmas = self.visited()
        end = last_sigma(options, self.alphas)
        self.sigmas = np.append(sigmas, end).astype(np.float32).astype(np.float64)
        most = float(self.sigmas.max())
        is_whole = options.timestep_spacing in ("linspace", "trailing")
        self.init_scale = most if is_whole else (most**2 + 1) ** 0.5

    def visited(self) -> tuple[Doubles, Doubles]:
        """Timesteps and their noise."""
        taught = sigmas_of(self.alphas)
        timesteps = spaced(self.options, self.steps)
        sigmas = np.interp(timesteps, np.arange(len(taught)), taught)
        if is_resized(self.options):
            sigmas = resized(self.options, sigmas, self.steps)
            timesteps = timesteps_of(sigmas, taught)
        return timesteps, sigmas

    def scaled(self, sample: Floats) -> Floats:
        return over(sample, (self.sigmas[self.at] ** 2 + 1) ** 0.5)

    def noised(self, picture: Floats, noise: Floats) -> Floats:
        return picture + single(self.sigmas[self.at]) * noise

    def original(self, output: Floats, sample: Floats, sigma: float) -> Floats:
        """The picture that the model foresees, in its bounds."""
        match self.options.prediction_type:
            case "epsilon":
                foreseen = sample - single(sigma) * output
            case "sample":
                foreseen = output
            case _:
                power = sigma**2 + 1
                foreseen = single(-sigma / power**0.5) * output + over(sample, power)
        self.foreseen = self.kept(foreseen)
        return self.foreseen


class EulerScheduler(SigmaScheduler):
    """Euler's method."""

    heeds: ClassVar = ("use_karras_sigmas", "use_exponential_sigmas", "final_sigmas_type")

    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        sigma, after = self.sigmas[self.at : self.at + 2]
        self.at += 1
        slope = over(sample - self.original(output, sample, sigma), sigma)
        return sample + single(after - sigma) * slope


class EulerAncestralScheduler(SigmaScheduler):
    """Euler's method to less noise than there is to be, and new noise up to that."""

    predictions: ClassVar = ("epsilon", "v_prediction")

    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        sigma, after = map(float, self.sigmas[self.at : self.at + 2])
        self.at += 1
        up = (after**2 * (sigma**2 - after**2) / sigma**2) ** 0.5
        down = (after**2 - up**2) ** 0.5
        slope = over(sample - self.original(output, sample, sigma), sigma)
        made: Floats = sample + single(down - sigma) * slope
        return made + single(up) * noise()


class HeunScheduler(SigmaScheduler):
    """Heun's method: a step of Euler's, then again with the mean of both ends' slopes; the last is
    Euler's alone."""

    order: ClassVar = 2
    defaults: ClassVar = {"beta_start": 0.00085, "beta_end": 0.012}
    lacks: ClassVar = ("rescale_betas_zero_snr", "thresholding")
    heeds: ClassVar = ("use_karras_sigmas", "use_exponential_sigmas")

    def __init__(self, options: Options, steps: int) -> None:
        super().__init__(options, steps)
        self.timesteps = np.append(self.timesteps[:1], self.timesteps[1:].repeat(2))
        first, middle, end = self.sigmas[:1], self.sigmas[1:-1], self.sigmas[-1:]
        self.sigmas = np.concatenate([first, middle.repeat(2), end])
        self._begun: tuple[Floats, Floats] | None = None
        """Where the step began, and the slope there."""

    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        at = self.at
        self.at += 1
        if self._begun is None:
            sigma, after = self.sigmas[at : at + 2]
            slope = over(sample - self.original(output, sample, sigma), sigma)
            self._begun = sample, slope
            return sample + single(after - sigma) * slope
        sigma, after = self.sigmas[at - 1 : at + 1]
        (start, slope), self._begun = self._begun, None
        end_slope = over(sample - self.original(output, sample, after), after)
        return start + single(after - sigma) * over(slope + end_slope, 2)
