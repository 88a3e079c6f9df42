"""All that a scheduler can be told, with no gap: what the model's configuration says, else the
scheduler's own default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from nsedge.bundle.scheduler import SchedulerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The fields of `SchedulerConfig`, and what most schedulers have where nothing is said."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: str = "epsilon"
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    timestep_spacing: str = "linspace"
    steps_offset: int = 0
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False
    use_lu_lambdas: bool = False
    sigma_min: float | None = None
    sigma_max: float | None = None
    final_sigmas_type: str = "zero"
    set_alpha_to_one: bool = True
    skip_prk_steps: bool = False
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    variance_type: str = "fixed_small"
    algorithm_type: str = "dpmsolver++"
    solver_order: int = 2
    solver_type: str = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lambda_min_clipped: float = float("-inf")
    predict_x0: bool = True
    disable_corrector: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, config: SchedulerConfig, defaults: Mapping[str, Any], chosen: Mapping[str, Any]
    ) -> Options:
        """What `config` says, with a scheduler's `defaults` where it says nothing, and in any case
        what was `chosen` with the scheduler's name."""
        names = {field.name for field in fields(cls)}
        stated = msgspec.structs.asdict(config)
        said = {name: stated[name] for name in names if stated[name] is not None}
        return cls(**{**defaults, **said, **chosen})
