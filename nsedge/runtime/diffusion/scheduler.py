"""A scheduler leads one picture from noise to what the model foresees, step by step.

Arrays are those of one picture, float32 [channels, height, width]. Numbers are diffusers', which
tests hold every scheduler to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from nsedge.errors import InvalidParameter
from nsedge.runtime.diffusion.noise import Doubles, Floats, alphas_of, betas_of
from nsedge.runtime.diffusion.options import Options

Noise = Callable[[], Floats]
"""Gives new noise of variance 1, in the shape of the picture."""
PARTICULAR = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_lu_lambdas",
    "final_sigmas_type",
)
"""Options of the noise that is left at each step, which some schedulers have."""


class Scheduler(ABC):
    """The way of one picture. A call of the model for each of `timesteps`, from number `at` on."""

    order: ClassVar[int] = 1
    """Calls of the model for a step."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Options that are not said, where they differ from those of `Options`."""
    lacks: ClassVar[tuple[str, ...]] = ()
    """Options of the model's that this one cannot heed."""
    heeds: ClassVar[tuple[str, ...]] = ()
    """Which of `PARTICULAR` it has; the others are as if they were not said."""
    predictions: ClassVar[tuple[str, ...]] = ("epsilon", "sample", "v_prediction")
    """What a model may give that it leads."""

    def __init__(self, options: Options, steps: int) -> None:
        """A way of `steps` steps.

        Raises:
            InvalidParameter: the model's options are none that it can heed, or the steps are too
                many or too few.
        """
        self.options = options
        self.steps = steps
        self.at = 0
        """The call of the model that comes next."""
        self.foreseen: Floats | None = None
        """What the picture would be, by the last call."""
        self.init_scale = 1.0
        """Of the noise that it begins with."""
        self._check()
        self.alphas = alphas_of(betas_of(options))
        self.timesteps: Doubles = np.zeros(0)

    @classmethod
    def title(cls) -> str:
        """What it is called where something is wrong."""
        return cls.__name__.removesuffix("Scheduler")

    def is_done(self) -> bool:
        """Whether the picture is there."""
        return self.at >= len(self.timesteps)

    def begin_at(self, step: int) -> None:
        """Leave out the steps before `step`, of a picture that is there already."""
        self.at = step * self.order

    def scaled(self, sample: Floats) -> Floats:
        """What the model is given of a picture."""
        return sample

    @abstractmethod
    def step(self, output: Floats, sample: Floats, noise: Noise) -> Floats:
        """The picture after the next call of the model, which gave `output` of `sample`."""

    @abstractmethod
    def noised(self, picture: Floats, noise: Floats) -> Floats:
        """A picture without noise as it is before the next call."""

    def kept(self, foreseen: Floats) -> Floats:
        """A foreseen picture, in its bounds: cut off, or by dynamic thresholding (section 2.3 of
        arXiv 2205.11487)."""
        options = self.options
        if options.thresholding:
            most = float(np.quantile(np.abs(foreseen), options.dynamic_thresholding_ratio))
            most = max(1.0, min(most, options.sample_max_value))
            return np.asarray(np.clip(foreseen, -most, most) / np.float32(most))
        if options.clip_sample:
            edge = options.clip_sample_range
            return np.clip(foreseen, -edge, edge)
        return foreseen

    def too_many(self) -> InvalidParameter:
        """Why a way cannot be gone whose timesteps do not fall, or are beyond the last."""
        return InvalidParameter(
            f"{self.steps} steps are too many for the scheduler {self.title()} with this model's"
            " timesteps",
            param="steps",
        )

    def _check(self) -> None:
        options, title = self.options, self.title()
        for name in self.lacks:
            if getattr(options, name):
                raise InvalidParameter(
                    f"the scheduler {title} has no {name}, which the model was taught with",
                    param="scheduler",
                )
        if options.prediction_type not in self.predictions:
            raise InvalidParameter(
                f"the scheduler {title} is for models that give {' or '.join(self.predictions)},"
                f" and this one gives {options.prediction_type}",
                param="scheduler",
            )
        if not 1 <= self.steps <= options.num_train_timesteps:
            raise InvalidParameter(
                f"steps must be from 1 to {options.num_train_timesteps}, not {self.steps}",
                param="steps",
            )


def over(sample: Floats, divisor: float) -> Floats:
    """A picture divided by a number, in its own precision."""
    return np.asarray(sample / np.float32(divisor), np.float32)


def single(value: float) -> Floats:
    """A factor in the precision of pictures, which a product with one keeps: float32 []."""
    return np.array(value, np.float32)
