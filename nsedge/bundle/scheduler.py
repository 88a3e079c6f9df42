"""How a model of pictures was taught noise, and how it is led from noise to a picture, as data."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from nsedge.bundle.fields import Positive, Strict

Above = Annotated[float, Meta(gt=0)]
BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
Prediction = Literal["epsilon", "sample", "v_prediction"]
Spacing = Literal["linspace", "leading", "trailing"]
Algorithm = Literal["dpmsolver++", "sde-dpmsolver++"]
SchedulerKind = Literal[
    "ddim",
    "ddpm",
    "dpm-multistep",
    "euler",
    "euler-ancestral",
    "heun",
    "lcm",
    "pndm",
    "unipc",
]


class SchedulerConfig(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduler and its fields, by diffusers' names of them. None is not said: then each
    scheduler has its own default, which is diffusers'.

    - num_train_timesteps, beta_*, trained_betas, rescale_betas_zero_snr: the noise that the model
      was taught, by timestep.
    - prediction_type: what the model gives: the noise, the picture, or v of both.
    - clip_sample, clip_sample_range, thresholding, dynamic_thresholding_ratio, sample_max_value:
      how the picture that is foreseen at a step is kept in bounds.
    - timestep_spacing, steps_offset: which timesteps are visited.
    - use_*_sigmas, use_lu_lambdas, sigma_min, sigma_max, final_sigmas_type: which noise is left at
      each step, where that does not follow from the timesteps.
    - set_alpha_to_one, skip_prk_steps, original_inference_steps, timestep_scaling, variance_type,
      algorithm_type, solver_order, solver_type, lower_order_final, euler_at_final,
      lambda_min_clipped, predict_x0, disable_corrector: of single schedulers.
    """

    scheduler: SchedulerKind
    num_train_timesteps: Positive | None = None
    beta_start: Above | None = None
    beta_end: Above | None = None
    beta_schedule: BetaSchedule | None = None
    trained_betas: tuple[Above, ...] | None = None
    rescale_betas_zero_snr: bool | None = None
    prediction_type: Prediction | None = None
    clip_sample: bool | None = None
    clip_sample_range: Above | None = None
    thresholding: bool | None = None
    dynamic_thresholding_ratio: Annotated[float, Meta(ge=0, le=1)] | None = None
    sample_max_value: Above | None = None
    timestep_spacing: Spacing | None = None
    steps_offset: int | None = None
    use_karras_sigmas: bool | None = None
    use_exponential_sigmas: bool | None = None
    use_lu_lambdas: bool | None = None
    sigma_min: Above | None = None
    sigma_max: Above | None = None
    final_sigmas_type: Literal["zero", "sigma_min"] | None = None
    set_alpha_to_one: bool | None = None
    skip_prk_steps: bool | None = None
    original_inference_steps: Positive | None = None
    timestep_scaling: Above | None = None
    variance_type: Literal["fixed_small", "fixed_large"] | None = None
    algorithm_type: Algorithm | None = None
    solver_order: Annotated[int, Meta(ge=1, le=3)] | None = None
    solver_type: Literal["midpoint", "heun", "bh1", "bh2"] | None = None
    lower_order_final: bool | None = None
    euler_at_final: bool | None = None
    lambda_min_clipped: float | None = None
    predict_x0: bool | None = None
    disable_corrector: tuple[int, ...] | None = None
