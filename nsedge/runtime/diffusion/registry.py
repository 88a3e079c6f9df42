"""The schedulers there are, by name: the model's own, and those that a request may choose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nsedge.bundle.scheduler import SchedulerConfig
from nsedge.errors import InvalidParameter
from nsedge.runtime.diffusion.by_alpha import DdimScheduler, DdpmScheduler, LcmScheduler
from nsedge.runtime.diffusion.by_sigma import (
    EulerAncestralScheduler,
    EulerScheduler,
    HeunScheduler,
)
from nsedge.runtime.diffusion.dpm import DpmScheduler
from nsedge.runtime.diffusion.options import Options
from nsedge.runtime.diffusion.pndm import PndmScheduler
from nsedge.runtime.diffusion.scheduler import PARTICULAR, Scheduler
from nsedge.runtime.diffusion.unipc import UnipcScheduler

CLASSES: dict[str, type[Scheduler]] = {
    "ddim": DdimScheduler,
    "ddpm": DdpmScheduler,
    "dpm-multistep": DpmScheduler,
    "euler": EulerScheduler,
    "euler-ancestral": EulerAncestralScheduler,
    "heun": HeunScheduler,
    "lcm": LcmScheduler,
    "pndm": PndmScheduler,
    "unipc": UnipcScheduler,
}
"""By the name in a `SchedulerConfig`."""

_EVEN = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_lu_lambdas": False}
_KARRAS = _EVEN | {"use_karras_sigmas": True}
_DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2}
_SDE = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}

NAMES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("ddim", _EVEN),
    "ddpm": ("ddpm", _EVEN),
    "dpmpp-2m": ("dpm-multistep", _EVEN | _DPM),
    "dpmpp-2m-karras": ("dpm-multistep", _KARRAS | _DPM),
    "dpmpp-2m-sde": ("dpm-multistep", _EVEN | _SDE),
    "dpmpp-2m-sde-karras": ("dpm-multistep", _KARRAS | _SDE),
    "euler": ("euler", _EVEN),
    "euler-karras": ("euler", _KARRAS),
    "euler-ancestral": ("euler-ancestral", _EVEN),
    "heun": ("heun", _EVEN),
    "heun-karras": ("heun", _KARRAS),
    "lcm": ("lcm", _EVEN),
    "pndm": ("pndm", _EVEN),
    "unipc": ("unipc", _EVEN),
    "unipc-karras": ("unipc", _KARRAS),
}
"""What a request may name, the scheduler it means, and the options that the name says."""


def begin(config: SchedulerConfig, steps: int, name: str | None = None) -> Scheduler:
    """The way of one picture in `steps` steps, by the scheduler `name`, or the model's own.

    Another scheduler than the model's has what the model's configuration says, where it has such
    an option, and its own defaults else.

    Raises:
        InvalidParameter: there is none of that name, or it cannot lead this model, or not in so
            many steps.
    """
    kind, chosen = own_or_named(config, name)
    scheduler = CLASSES[kind]
    masked = {option: chosen[option] for option in chosen}
    for option in PARTICULAR:
        if option not in scheduler.heeds:
            masked[option] = "zero" if option == "final_sigmas_type" else False
    return scheduler(Options.of(config, scheduler.defaults, masked), steps)


def own_or_named(config: SchedulerConfig, name: str | None) -> tuple[str, Mapping[str, Any]]:
    """The scheduler that is meant, and the options that its name says.

    Raises:
        InvalidParameter: there is none of that name.
    """
    if name is None:
        return config.scheduler, {}
    if name not in NAMES:
        raise InvalidParameter(
            f"there is no scheduler {name!r}; there are {', '.join(NAMES)}", param="scheduler"
        )
    return NAMES[name]
