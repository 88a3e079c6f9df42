"""Every scheduler against diffusers' own, step by step over whole ways from noise to a picture."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nsedge.bundle.scheduler import SchedulerConfig
from nsedge.errors import InvalidParameter
from nsedge.runtime.diffusion.guidance import guided
from nsedge.runtime.diffusion.registry import NAMES, begin

pytestmark = pytest.mark.export

SHAPE = (4, 8, 8)
MOST = 3e-5
"""Of the greatest number of a sample."""
SD: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
CLASSES = {
    "ddim": diffusers.DDIMScheduler,
    "ddpm": diffusers.DDPMScheduler,
    "dpm-multistep": diffusers.DPMSolverMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler-ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
    "pndm": diffusers.PNDMScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
}
EVERY_SPACING = ("linspace", "leading", "trailing")
EVERY_PREDICTION = ("epsilon", "sample", "v_prediction")

Floats = NDArray[np.float32]


def model(sample: Floats, timestep: float) -> Floats:
    """Something that bends, depends on all it is given, and stays within bounds."""
    turned = np.roll(sample, 1, axis=-1)
    near = np.tanh(sample * np.float32(0.7) + np.float32(0.3) * turned)
    return np.asarray(near + np.float32(0.2 * np.cos(timestep / 90.0)), np.float32)


def compare(
    kind: str,
    steps: int,
    *,
    name: str | None = None,
    first: int = 0,
    limit: float = MOST,
    **said: Any,
) -> None:
    """Hold our way to that of diffusers' class, with the same noise wherever one takes new."""
    options = SD | said
    ours = begin(SchedulerConfig(scheduler=kind, **options), steps, name)
    chosen = NAMES[name][1] if name else {}
    theirs = CLASSES[NAMES[name][0] if name else kind].from_config({**options, **chosen})
    theirs.set_timesteps(steps)
    timesteps = theirs.timesteps[first * theirs.order :]
    if first:
        ours.begin_at(first)
        if hasattr(theirs, "set_begin_index"):
            theirs.set_begin_index(first * theirs.order)
    start = torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(1))
    picture = torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(2))
    if first:
        sample = theirs.add_noise(picture, start, timesteps[:1])
        mine = ours.noised(picture[0].numpy(), start[0].numpy())
    else:
        sample = start * theirs.init_noise_sigma
        mine = start[0].numpy() * np.float32(ours.init_scale)
    drawn, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)

    def noise() -> Floats:
        return np.asarray(torch.randn((1, *SHAPE), generator=again)[0].numpy(), np.float32)

    takes_noise = "generator" in type(theirs).step.__code__.co_varnames
    own = list(ours.timesteps[first * ours.order :])
    assert own == pytest.approx(timesteps.tolist(), abs=1e-2)
    for number, timestep in enumerate(timesteps):
        assert not ours.is_done()
        given = theirs.scale_model_input(sample, timestep)
        output = model(given[0].numpy(), float(timestep))
        taken = {"generator": drawn} if takes_noise else {}
        sample = theirs.step(torch.from_numpy(output)[None], timestep, sample, **taken).prev_sample
        at = float(ours.timesteps[ours.at])
        mine = ours.step(model(ours.scaled(mine), at), mine, noise)
        wanted = sample[0].numpy()
        far = float(np.abs(mine - wanted).max() / np.abs(wanted).max())
        assert mine.dtype == np.float32
        assert far <= limit, f"call {number} at {float(timestep):g}: {far:.2g}"
    assert ours.is_done()


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 20, 50])
@pytest.mark.parametrize("kind", CLASSES)
def test_each_with_its_defaults(kind: str, steps: int) -> None:
    skips = {"skip_prk_steps": True} if kind == "pndm" else {}
    unbounded = {"clip_sample": False} if kind in ("ddim", "ddpm") else {}
    compare(kind, steps, **skips, **unbounded)


@pytest.mark.parametrize("prediction", EVERY_PREDICTION)
@pytest.mark.parametrize("spacing", EVERY_SPACING)
@pytest.mark.parametrize("kind", CLASSES)
def test_spacings_and_predictions(kind: str, spacing: str, prediction: str) -> None:
    said = {"timestep_spacing": spacing, "prediction_type": prediction, "skip_prk_steps": True}
    if kind in ("ddim", "ddpm"):
        said["clip_sample"] = False
    if prediction == "sample" and kind in ("pndm", "euler-ancestral"):
        with pytest.raises(InvalidParameter, match=r"gives? sample"):
            compare(kind, 8, **said)
        return
    compare(kind, 8, **said)


@pytest.mark.parametrize("spacing", EVERY_SPACING)
@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind not in ("heun", "pndm")])
def test_no_picture_left_at_the_last_timestep(kind: str, spacing: str) -> None:
    said = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    if kind in ("ddim", "ddpm"):
        said["clip_sample"] = False
    compare(kind, 9, timestep_spacing=spacing, **said, limit=2e-4)


@pytest.mark.parametrize("kind", ["heun", "pndm"])
def test_what_a_scheduler_has_not_is_refused(kind: str) -> None:
    config = SchedulerConfig(scheduler=kind, rescale_betas_zero_snr=True)
    with pytest.raises(InvalidParameter, match="has no rescale_betas_zero_snr") as caught:
        begin(config, 8)
    assert caught.value.param == "scheduler"


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("kind", CLASSES)
def test_schedules_of_noise(kind: str, schedule: str) -> None:
    said = {"clip_sample": False} if kind in ("ddim", "ddpm") else {}
    compare(kind, 6, beta_schedule=schedule, skip_prk_steps=True, **said, limit=1e-4)


@pytest.mark.parametrize("kind", ["ddim", "ddpm", "lcm", "heun"])
def test_what_is_foreseen_is_cut_off(kind: str) -> None:
    compare(kind, 6, clip_sample=True, clip_sample_range=0.8)


@pytest.mark.parametrize("kind", ["ddim", "ddpm", "lcm", "dpm-multistep", "unipc"])
def test_dynamic_thresholding(kind: str) -> None:
    compare(kind, 6, thresholding=True, sample_max_value=3.0, dynamic_thresholding_ratio=0.9)


@pytest.mark.parametrize("steps", [4, 5, 9, 20])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_runge_kutta_steps_of_pndm(steps: int, prediction: str) -> None:
    compare("pndm", steps, prediction_type=prediction)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 20])
@pytest.mark.parametrize(
    "said",
    [
        {},
        {"solver_type": "heun"},
        {"final_sigmas_type": "sigma_min"},
        {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"use_lu_lambdas": True},
        {"use_exponential_sigmas": True},
        {"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2"},
    ],
    ids=lambda said: "-".join(f"{name}={value}" for name, value in said.items()) or "plain",
)
def test_the_orders_of_dpm(order: int, steps: int, said: dict[str, Any]) -> None:
    compare("dpm-multistep", steps, solver_order=order, **said, limit=1e-4)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("solver", ["midpoint", "heun"])
def test_the_stochastic_equation_of_dpm(order: int, solver: str) -> None:
    said = {"algorithm_type": "sde-dpmsolver++", "solver_order": order, "solver_type": solver}
    for steps in (1, 3, 20):
        compare("dpm-multistep", steps, **said)


def test_the_stochastic_equation_of_dpm_has_two_orders() -> None:
    config = SchedulerConfig(
        scheduler="dpm-multistep", algorithm_type="sde-dpmsolver++", solver_order=3
    )
    with pytest.raises(InvalidParameter, match="to the order 2 at most, not 3"):
        begin(config, 8)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 20])
@pytest.mark.parametrize(
    "said",
    [
        {},
        {"solver_type": "bh1", "final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min"},
        {"disable_corrector": (0, 1)},
        {"predict_x0": False, "final_sigmas_type": "sigma_min"},
        {"use_exponential_sigmas": True, "final_sigmas_type": "sigma_min"},
    ],
    ids=lambda said: "-".join(f"{name}={value}" for name, value in said.items()) or "plain",
)
def test_the_orders_of_unipc(order: int, steps: int, said: dict[str, Any]) -> None:
    compare("unipc", steps, solver_order=order, **said, limit=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pndm", "euler", "dpm-multistep"])
def test_another_scheduler_than_the_models_own(kind: str, name: str) -> None:
    """As diffusers has it with `from_config`: what both know carries over."""
    said = {"set_alpha_to_one": False, "clip_sample": False, "skip_prk_steps": True}
    compare(kind, 10, name=name, **said, limit=1e-4)


@pytest.mark.parametrize("first", [1, 3, 7])
@pytest.mark.parametrize("kind", CLASSES)
def test_a_picture_that_is_there_already(kind: str, first: int) -> None:
    said = {"skip_prk_steps": True} | ({"clip_sample": False} if kind in ("ddim", "ddpm") else {})
    compare(kind, 8, first=first, **said)


def test_betas_that_were_given() -> None:
    betas = tuple(np.linspace(0.001, 0.02, 100).tolist())
    for kind in ("ddim", "euler", "unipc"):
        said = {"clip_sample": False} if kind == "ddim" else {}
        compare(kind, 5, trained_betas=betas, num_train_timesteps=100, **said)


@pytest.mark.parametrize("rescale", [0.0, 0.3, 1.0])
def test_guidance_and_its_rescaling(rescale: float) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    without, prompted = torch.randn((2, *SHAPE), generator=torch.Generator().manual_seed(5))
    theirs = without + 7.5 * (prompted - without)
    if rescale:
        theirs = rescale_noise_cfg(theirs[None], prompted[None], guidance_rescale=rescale)[0]
    ours = guided(without.numpy(), prompted.numpy(), 7.5, rescale)
    assert np.abs(ours - theirs.numpy()).max() <= 1e-5
