"""Schedulers by what they come to. tests/export/test_schedulers.py holds them to diffusers'."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.bundle.scheduler import SchedulerConfig
from nsedge.errors import InvalidParameter
from nsedge.runtime.diffusion.guidance import guided
from nsedge.runtime.diffusion.registry import CLASSES, NAMES, begin

Floats = NDArray[np.float32]
SHAPE = (2, 4, 5)
CONFIG = SchedulerConfig(
    scheduler="euler",
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=True,
    skip_prk_steps=True,
    steps_offset=1,
)


def drawn(seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(SHAPE, np.float32)


def alphas() -> NDArray[np.float64]:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return np.asarray(np.cumprod(1 - betas))


@pytest.mark.parametrize("steps", [4, 11, 30])
@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_knows_the_picture_is_led_to_it(name: str, steps: int) -> None:
    wanted, generator = drawn(1) * np.float32(0.5), np.random.default_rng(2)
    scheduler = begin(CONFIG, steps, name)
    assert scheduler.timesteps.size >= steps
    sample = drawn(3) * np.float32(scheduler.init_scale)
    left = alphas()
    while not scheduler.is_done():
        given, timestep = scheduler.scaled(sample), float(scheduler.timesteps[scheduler.at])
        alpha = np.interp(timestep, np.arange(1000), left)
        noise = (given - alpha**0.5 * wanted) / (1 - alpha) ** 0.5
        sample = scheduler.step(
            noise.astype(np.float32), sample, lambda: generator.standard_normal(SHAPE, np.float32)
        )
        assert scheduler.foreseen is not None
        assert np.abs(scheduler.foreseen - wanted).max() < 0.2
    assert sample.dtype == np.float32
    assert np.abs(sample - wanted).max() < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_the_same_noise_gives_the_same_picture(name: str) -> None:
    made = []
    for _ in range(2):
        generator = np.random.default_rng(7)
        scheduler = begin(CONFIG, 6, name)
        sample = drawn(3) * np.float32(scheduler.init_scale)
        while not scheduler.is_done():
            sample = scheduler.step(
                np.tanh(scheduler.scaled(sample)),
                sample,
                lambda generator=generator: generator.standard_normal(SHAPE, np.float32),
            )
        made.append(sample)
    assert (made[0] == made[1]).all()


def test_every_scheduler_has_a_name() -> None:
    assert {kind for kind, _ in NAMES.values()} == set(CLASSES)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidParameter, match=r"no scheduler 'plms'; there are ddim, ") as caught:
        begin(CONFIG, 4, "plms")
    assert caught.value.param == "scheduler"


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_steps_are_refused(steps: int) -> None:
    with pytest.raises(InvalidParameter, match=f"from 1 to 1000, not {steps}") as caught:
        begin(CONFIG, steps)
    assert caught.value.param == "steps"


@pytest.mark.parametrize("steps", [3, 20, 64])
@pytest.mark.parametrize("name", NAMES)
def test_a_way_ends_where_the_least_noise_is_left(name: str, steps: int) -> None:
    config = msgspec.structs.replace(CONFIG, final_sigmas_type="sigma_min", solver_order=3)
    if name == "lcm":
        steps = min(steps, 50)
    scheduler, generator = begin(config, steps, name), np.random.default_rng(7)
    sample = drawn(3) * np.float32(scheduler.init_scale)
    while not scheduler.is_done():
        sample = scheduler.step(
            np.tanh(scheduler.scaled(sample)),
            sample,
            lambda: generator.standard_normal(SHAPE, np.float32),
        )
    assert np.isfinite(sample).all()


@pytest.mark.parametrize("name", ["ddim", "pndm", "dpmpp-2m", "dpmpp-2m-sde", "unipc"])
def test_steps_that_would_visit_a_timestep_twice_are_refused(name: str) -> None:
    spaced = msgspec.structs.replace(CONFIG, timestep_spacing="leading")
    begin(spaced, 500, name)
    with pytest.raises(InvalidParameter, match="1000 steps are too many") as caught:
        begin(spaced, 1000, name)
    assert caught.value.param == "steps"


def test_lcm_goes_no_more_steps_than_it_was_distilled_with() -> None:
    with pytest.raises(InvalidParameter, match="50 at most with the scheduler Lcm, not 51"):
        begin(CONFIG, 51, "lcm")


def test_runge_kutta_steps_need_four_steps_and_pure_noise() -> None:
    config = SchedulerConfig(scheduler="pndm")
    with pytest.raises(InvalidParameter, match="4 at least"):
        begin(config, 3)
    with pytest.raises(InvalidParameter, match="begins with pure noise"):
        begin(config, 8).begin_at(2)


def test_a_model_is_not_led_by_what_cannot_heed_it() -> None:
    for field in ("clip_sample", "thresholding"):
        config = SchedulerConfig(scheduler="ddim", **{field: True})
        begin(config, 4)
        with pytest.raises(InvalidParameter, match=f"Euler has no {field}"):
            begin(config, 4, "euler")
    gives = SchedulerConfig(scheduler="ddim", prediction_type="sample")
    with pytest.raises(InvalidParameter, match="this one gives sample"):
        begin(gives, 4, "pndm")


def test_guidance_goes_from_without_to_beyond_the_prompt() -> None:
    without, prompted = drawn(1), drawn(2)
    assert guided(without, prompted, 0.0) == pytest.approx(without)
    assert guided(without, prompted, 1.0) == pytest.approx(prompted, abs=1e-6)
    beyond = guided(without, prompted, 7.5)
    assert beyond == pytest.approx(without + 7.5 * (prompted - without), abs=1e-5)
    rescaled = guided(without, prompted, 7.5, 1.0)
    assert rescaled.std() == pytest.approx(prompted.std(), rel=1e-5)


def test_nothing_to_rescale_is_left_as_it_is() -> None:
    zeros = np.zeros(SHAPE, np.float32)
    assert (guided(zeros, zeros, 7.5, 0.7) == zeros).all()
