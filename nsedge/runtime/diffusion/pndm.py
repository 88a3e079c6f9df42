"""Pseudo numerical methods for diffusion models (arXiv 2202.09778): a linear multistep method,
which Runge-Kutta steps may begin."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from nsedge.errors import InvalidParameter
from nsedge.runtime.diffusion.by_alpha import AlphaScheduler
from nsedge.runtime.diffusion.noise import Floats
from nsedge.runtime.diffusion.options import Options
from nsedge.runtime.diffusion.scheduler import Noise, over, single
from nsedge.runtime.diffusion.spacing import spaced

ORDER = 4
"""Of the Runge-Kutta steps, and of the multistep method."""
_RUNGE_KUTTA = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
_ADAMS = {
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}
"""Weights of the newest outputs, newest first, by how many there are."""


class PndmScheduler(AlphaScheduler):
    """Heeds what the model gave before. Its first call has a second, at the timestep after."""

    defaults: ClassVar = {"set_alpha_to_one": False, "timestep_spacing": "leading"}
    lacks: ClassVar = ("rescale_betas_zero_snr", "clip_sample", "thresholding")
    predictions: ClassVar = ("epsilon", "v_prediction")

    def __init__(self, options: Options, steps: int) -> None:
        self._runge_kutta: list[int] = []
        super().__init__(options, steps)
        self._stride = options.num_train_timesteps // steps
        self._calls = 0
        self._outputs: list[Floats] = []
        self._sum: Floats | None = None
        self._from: Floats | None = None
        """The picture that a step began with which takes several calls."""

    def visited(self) -> Any:
        """The timesteps, some of them twice."""
        rising = spaced(self.options, self.steps).round()[::-1]
        if self.options.skip_prk_steps:
            return np.concatenate([rising[:-1], rising[-2:-1], rising[-1:]])[::-1]
        if self.steps < ORDER:
            raise InvalidParameter(
                f"steps must be {ORDER} at least with the scheduler {self.title()}, not"
                f" {self.steps}",
                param="steps",
            )
        half = self.options.num_train_timesteps // self.steps // 2
        pairs = rising[-ORDER:].repeat(2) + np.tile([0.0, half], ORDER)
        begin = pairs[:-1].repeat(2)[1:-1][::-1]
        self._runge_kutta = [int(timestep) for timestep in begin]
        return np.concatenate([begin, rising[:-3][::-1]])

    def begin_at(self, step: int) -> None:
        """Leave out the steps before `step`; raises InvalidParameter where Runge-Kutta steps are
        among those, which the others go on from."""
        if step and self._runge_kutta:
            raise InvalidParameter(
                f"the scheduler {self.title()} begins with pure noise where skip_prk_steps is not"
                " set",
                param="scheduler",
            )
        super().begin_at(step)

    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        timestep = int(self.timesteps[self.at])
        self.original(self._epsilon(output, sample, timestep), sample, self.alpha(timestep))
        self.at += 1
        if self._calls < len(self._runge_kutta):
            made = self._begun(output, sample, timestep)
        else:
            made = self._went_on(output, sample, timestep)
        self._calls += 1
        return made

    def original(self, output: Floats, sample: Floats, alpha: float) -> Floats:
        """The picture that the noise `output` in a sample leaves."""
        self.foreseen = over(sample - single((1 - alpha) ** 0.5) * output, alpha**0.5)
        return self.foreseen

    def _begun(self, output: Floats, sample: Floats, timestep: int) -> Floats:
        """One of the four calls of a Runge-Kutta step."""
        part = self._calls % ORDER
        before = timestep - (0 if self._calls % 2 else self._stride // 2)
        start = self._runge_kutta[self._calls // ORDER * ORDER]
        weighted = single(_RUNGE_KUTTA[part]) * output
        self._sum = weighted if self._sum is None else self._sum + weighted
        if part == 0:
            self._outputs.append(output)
            self._from = sample
        elif part == ORDER - 1:
            output, self._sum = self._sum, None
        return self._moved(sample if self._from is None else self._from, start, before, output)

    def _went_on(self, output: Floats, sample: Floats, timestep: int) -> Floats:
        """A step of the multistep method."""
        before = timestep - self._stride
        if self._calls == 1:
            mean = single(0.5) * (output + self._outputs[-1])
            start, self._from = self._from, None
            return self._moved(
                sample if start is None else start, timestep + self._stride, timestep, mean
            )
        self._outputs = [*self._outputs[-(ORDER - 1) :], output]
        if self._calls == 0:
            self._from = sample
        known = len(self._outputs)
        if known > 1:
            newest = zip(_ADAMS[known], reversed(self._outputs), strict=True)
            output = sum((single(weight) * one for weight, one in newest), np.zeros_like(output))
        return self._moved(sample, timestep, before, output)

    def _moved(self, sample: Floats, timestep: int, before: int, output: Floats) -> Floats:
        """The picture of `timestep` at the timestep `before`: formula 9."""
        alpha, after = self.alpha(timestep), self.alpha(before)
        epsilon = self._epsilon(output, sample, timestep)
        rest = (1 - alpha) * alpha * after
        divisor = alpha * (1 - after) ** 0.5 + rest**0.5
        return single((after / alpha) ** 0.5) * sample - single((after - alpha) / divisor) * epsilon

    def _epsilon(self, output: Floats, sample: Floats, timestep: int) -> Floats:
        if self.options.prediction_type == "epsilon":
            return output
        alpha = self.alpha(timestep)
        return single(alpha**0.5) * output + single((1 - alpha) ** 0.5) * sample
