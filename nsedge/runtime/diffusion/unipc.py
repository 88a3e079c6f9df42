"""UniPC (arXiv 2302.04867): a multistep predictor; the next call of the model corrects its step."""

from __future__ import annotations

import math

import numpy as np

from nsedge.errors import InvalidParameter
from nsedge.runtime.diffusion.multistep import MultistepScheduler
from nsedge.runtime.diffusion.noise import Doubles, Floats
from nsedge.runtime.diffusion.options import Options
from nsedge.runtime.diffusion.scheduler import Noise, over, single
from nsedge.runtime.diffusion.spacing import is_resized


class UnipcScheduler(MultistepScheduler):
    """Of order 1, 2 or 3, in the pictures foreseen or in their noise (`predict_x0`)."""

    def __init__(self, options: Options, steps: int) -> None:
        super().__init__(options, steps)
        if not options.predict_x0 and options.final_sigmas_type == "zero":
            raise InvalidParameter(
                f"the scheduler {self.title()} needs final_sigmas_type sigma_min where predict_x0"
                " is not set",
                param="scheduler",
            )
        self._known: list[Floats] = []
        self._before: tuple[Floats, int] | None = None
        """The sample that the last step began with, and that step's order."""

    def end_of(self, sigmas: Doubles) -> float:
        if is_resized(self.options) and self.options.final_sigmas_type == "sigma_min":
            return float(sigmas[-1])
        return super().end_of(sigmas)

    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        options, at = self.options, self.at
        given = self._converted(output, sample)
        if self._before is not None and at - 1 not in options.disable_corrector:
            sample = self._moved(self._before[0], at - 1, order=self._before[1], corrected=given)
        self._known = [*self._known[-2:], given]
        left = len(self.timesteps) - at
        most = (
            min(options.solver_order, left) if options.lower_order_final else options.solver_order
        )
        order = min(most, len(self._known))
        if self.sigmas[at + 1] == 0:
            order = 1
        self._before = sample, order
        self.at += 1
        return self._moved(sample, at, order=order, corrected=None)

    def _converted(self, output: Floats, sample: Floats) -> Floats:
        """What steps go by: the picture foreseen, or the noise."""
        original = self.original(output, sample)
        if self.options.predict_x0:
            return original
        strength, spread = map(single, self.strengths(self.at))
        match self.options.prediction_type:
            case "epsilon":
                return output
            case "sample":
                return over(sample - strength * output, self.strengths(self.at)[1])
            case _:
                return strength * output + spread * sample

    def _moved(self, sample: Floats, at: int, *, order: int, corrected: Floats | None) -> Floats:
        """The sample before call `at`, at the next: foretold, or with what the model gave there."""
        newest = self._known[-1]
        ratio = self.log_ratio(at)
        step = self.log_ratio(at + 1) - ratio
        signed = -step if self.options.predict_x0 else step
        whole = math.expm1(signed)
        scale = signed if self.options.solver_type == "bh1" else whole
        ratios = [(self.log_ratio(at - back) - ratio) / step for back in range(1, order)]
        changes = [
            over(self._known[-1 - back] - newest, ratios[back - 1]) for back in range(1, order)
        ]
        if corrected is not None:
            ratios, changes = [*ratios, 1.0], [*changes, corrected - newest]
        weights = _weights(ratios, signed, scale)
        (strength, spread), (before, spread_before) = self.strengths(at + 1), self.strengths(at)
        if self.options.predict_x0:
            kept, factor = spread / spread_before, strength
        else:
            kept, factor = strength / before, spread
        moved = single(kept) * sample - single(factor * whole) * newest
        for weight, change in zip(weights, changes, strict=True):
            moved = moved - single(factor * scale * weight) * change
        return moved


def _weights(ratios: list[float], signed: float, scale: float) -> Doubles:
    """How much each change counts: so that all powers of the step below the order come out right.
    The lowest orders have half."""
    if len(ratios) <= 1:
        return np.full(len(ratios), 0.5)
    powers = np.array([np.power(ratios, power) for power in range(len(ratios))])
    wanted = []
    part, factorial = math.expm1(signed) / signed - 1, 1.0
    for number in range(2, len(ratios) + 2):
        wanted.append(part * factorial / scale)
        factorial *= number
        part = part / signed - 1 / factorial
    return np.asarray(np.linalg.solve(powers, np.array(wanted)), np.float64)
