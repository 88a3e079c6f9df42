"""DPM-Solver++ as a multistep method (arXiv 2211.01095), as an ordinary and as a stochastic
differential equation."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from nsedge.errors import InvalidParameter
from nsedge.runtime.diffusion.multistep import MultistepScheduler
from nsedge.runtime.diffusion.noise import Doubles, Floats
from nsedge.runtime.diffusion.options import Options
from nsedge.runtime.diffusion.scheduler import Noise, over, single

FEW = 15
"""With fewer steps than this, the last are of a lower order."""


class DpmScheduler(MultistepScheduler):
    """Of order 1, 2 or 3 in the pictures foreseen."""

    heeds: ClassVar = (*MultistepScheduler.heeds, "use_lu_lambdas")

    def __init__(self, options: Options, steps: int) -> None:
        super().__init__(options, steps)
        self._is_stochastic = options.algorithm_type == "sde-dpmsolver++"
        if self._is_stochastic and options.solver_order > 2:
            raise InvalidParameter(
                f"the scheduler {self.title()} solves the stochastic equation to the order 2 at"
                f" most, not {options.solver_order}",
                param="scheduler",
            )
        self._known: list[Floats] = []

    def last_timestep(self) -> int:
        least = self.options.lambda_min_clipped
        ratios = 0.5 * (np.log(self.alphas) - np.log(1 - self.alphas))
        return len(ratios) - int(np.searchsorted(ratios[::-1], least))

    def rounded(self, timesteps: Doubles) -> Doubles:
        options = self.options
        if options.beta_schedule == "squaredcos_cap_v2":
            return np.trunc(timesteps)
        return super().rounded(timesteps)

    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        original = self.original(output, sample)
        self._known = [*self._known[-2:], original]
        order = self._order()
        fresh = noise() if self._is_stochastic else None
        at = self.at
        self.at += 1
        strength, spread = self.strengths(at + 1)
        step = self.log_ratio(at + 1) - self.log_ratio(at)
        # A stochastic step goes twice as far towards the picture, and back by new noise.
        doubled = 1 if fresh is None else 2
        gone = -math.expm1(-doubled * step)
        kept = spread / self.strengths(at)[1] * (1 if fresh is None else math.exp(-step))
        moved = single(kept) * sample + single(strength * gone) * original
        for factor, change in self._changes(order, at, step, doubled):
            moved = moved + single(strength * factor) * change
        if fresh is not None:
            moved = moved + single(spread * math.sqrt(-math.expm1(-2 * step))) * fresh
        return moved

    def _order(self) -> int:
        options, left = self.options, len(self.timesteps) - self.at
        is_short = options.lower_order_final and len(self.timesteps) < FEW
        at_end = options.euler_at_final or is_short or options.final_sigmas_type == "zero"
        if left == 1 and at_end:
            return 1
        if left == 2 and is_short:
            return min(2, options.solver_order, len(self._known))
        return min(options.solver_order, len(self._known))

    def _changes(
        self, order: int, at: int, step: float, doubled: int
    ) -> list[tuple[float, Floats]]:
        """What steps of the orders above 1 add: factors, and how what is foreseen changed."""
        if order == 1 or step == 0:  # the last step goes nowhere where its noise is the least
            return []
        whole = doubled * step
        gone = -math.expm1(-whole)
        before = (self.log_ratio(at) - self.log_ratio(at - 1)) / step
        newest, older = self._known[-1], self._known[-2]
        first = over(newest - older, before)
        bend = 1 - gone / whole
        if order == 2:
            is_heun = self.options.solver_type == "heun"
            return [(bend if is_heun else 0.5 * gone, first)]
        earlier = (self.log_ratio(at - 1) - self.log_ratio(at - 2)) / step
        second = over(older - self._known[-3], earlier)
        curve = first - second
        slope = first + single(before / (before + earlier)) * curve
        return [
            (bend, slope),
            ((gone - whole) / whole**2 + 0.5, over(curve, before + earlier)),
        ]
