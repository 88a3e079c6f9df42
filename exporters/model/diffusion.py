"""What a diffusers folder says: which models it is made of, their sizes, and how noise is taken
away."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import msgspec

from exporters.errors import Refused
from exporters.model.files import (
    Json,
    is_count,
    read_object,
    read_safetensors_header,
    shown,
    tensors_of,
)
from nsedge.bundle.scheduler import SchedulerConfig, SchedulerKind
from nsedge.errors import InvalidParameter
from nsedge.runtime.diffusion.registry import begin

INDEX_FILE = "model_index.json"
CONFIG_FILE = "config.json"
SCHEDULER_FILE = "scheduler_config.json"
IGNORED_PARTS = ("safety_checker", "feature_extractor", "image_encoder")
"""Of a folder, which have no part in what is exported; they are told."""
SCHEDULERS: dict[str, SchedulerKind] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpm-multistep",
    "EulerAncestralDiscreteScheduler": "euler-ancestral",
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "LCMScheduler": "lcm",
    "PNDMScheduler": "pndm",
    "UniPCMultistepScheduler": "unipc",
}
"""By diffusers' class."""
ONLY: Json = {
    "use_beta_sigmas": False,
    "use_flow_sigmas": False,
    "flow_shift": 1.0,
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
    "shift_terminal": None,
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "solver_p": None,
}
"""Fields that change pictures, and the only value that there is a form for."""
ANYTHING = ("_class_name", "_diffusers_version", "_use_default_values")
NOTHING = ("learned", "learned_range", "fixed_small_log", "fixed_large_log")
"""Kinds of variance that there is no form for."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Pipelines of one shape. text_encoders: their folders; pooled: whether the denoiser takes the
    last one's vector and the picture's size, and the states before the last layer's; steps,
    guidance: what diffusers takes where nothing is said."""

    text_encoders: tuple[str, ...]
    pooled: bool
    steps: int
    guidance: float


FAMILIES = {
    "StableDiffusionPipeline": Family(
        text_encoders=("text_encoder",), pooled=False, steps=50, guidance=7.5
    ),
    "StableDiffusionXLPipeline": Family(
        text_encoders=("text_encoder", "text_encoder_2"), pooled=True, steps=50, guidance=5.0
    ),
}
"""By diffusers' class."""


@dataclass(frozen=True, kw_only=True)
class DiffusionShape:
    """All that is to be known of a diffusers folder beside its weights."""

    pipeline: str
    family: Family
    scheduler: SchedulerConfig
    latent_channels: int
    latent_factor: int
    size_step: int
    height: int
    width: int
    scaling: float
    shift: float
    empty_is_zero: bool
    notes: tuple[str, ...]

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """The folders of tokenizers, one for each text encoder."""
        return tuple(
            name.replace("text_encoder", "tokenizer") for name in self.family.text_encoders
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders of all models."""
        return (*self.family.text_encoders, "unet", "vae")


def is_diffusion(folder: Path) -> bool:
    """Whether a folder is one of diffusers."""
    return (folder / INDEX_FILE).is_file()


def read_diffusion_shape(folder: Path) -> DiffusionShape:
    """All that is to be known of a diffusers folder, before any weight is read.

    Raises:
        Refused: naming what cannot be exported.
        ExportError: a file is missing or damaged.
    """
    index = read_object(folder / INDEX_FILE)
    pipeline = index.get("_class_name")
    if pipeline not in FAMILIES:
        raise Refused(
            f"{folder / INDEX_FILE}: {shown(pipeline)} has no form here; there are"
            f" {', '.join(FAMILIES)}"
        )
    family = FAMILIES[pipeline]
    unet = _config(folder, "unet", "UNet2DConditionModel")
    vae = _config(folder, "vae", "AutoencoderKL")
    _check_denoiser(folder, unet, family)
    for name in ("latents_mean", "latents_std"):
        if vae.get(name) is not None:
            raise Refused(f"{folder / 'vae' / CONFIG_FILE}: {name} has no form here")
    channels = _count(folder, "vae", vae, "latent_channels", 4)
    if _count(folder, "unet", unet, "in_channels", 4) != channels:
        raise Refused(
            f"{folder / 'unet' / CONFIG_FILE}: in_channels {unet['in_channels']} beside"
            f" {channels} of latents have no form here (a model for inpainting?)"
        )
    factor = 2 ** (len(_blocks(folder, "vae", vae)) - 1)
    sample = unet.get("sample_size") or 64
    rows, columns = sample if isinstance(sample, list) else (sample, sample)
    present = [name for name in IGNORED_PARTS if _is_there(index.get(name))]
    return DiffusionShape(
        pipeline=pipeline,
        family=family,
        scheduler=as_pipelines_have_it(
            read_scheduler(folder / "scheduler" / SCHEDULER_FILE), family
        ),
        latent_channels=channels,
        latent_factor=factor,
        size_step=factor * 2 ** (len(_blocks(folder, "unet", unet)) - 1),
        height=rows * factor,
        width=columns * factor,
        scaling=float(vae.get("scaling_factor", 0.18215)),
        shift=float(vae.get("shift_factor") or 0.0),
        empty_is_zero=bool(index.get("force_zeros_for_empty_prompt", False)),
        notes=(f"left out: {', '.join(present)}",) if present else (),
    )


def read_scheduler(path: Path) -> SchedulerConfig:
    """A scheduler's configuration. Fields that say nothing to any scheduler are left out, others
    that have no form here are refused by name.

    Raises:
        Refused: naming the field.
        ExportError: the file is missing or damaged.
    """
    stated = read_object(path)
    name = stated.get("_class_name")
    kind = SCHEDULERS.get(str(name))
    if kind is None:
        raise Refused(f"{path}: {shown(name)} has no form here; there are {', '.join(SCHEDULERS)}")
    known = set(SchedulerConfig.__struct_fields__)
    fields: Json = {"scheduler": kind}
    for field, value in stated.items():
        if field in ANYTHING or value is None:
            continue
        if field in ONLY:
            if value != ONLY[field]:
                raise Refused(f"{path}: {field} {shown(value)} has no form here")
        elif field not in known:
            raise Refused(f"{path}: {field} is no field of a scheduler that is known here")
        elif field == "variance_type" and value in NOTHING:
            raise Refused(f"{path}: variance_type {shown(value)} has no form here")
        elif field == "solver_type" and value == "logrho":
            continue  # each scheduler has its default in its place, in diffusers, too
        elif value != float("-inf"):
            fields[field] = value
    try:
        config = msgspec.convert(fields, SchedulerConfig)
        begin(config, 10)
    except (msgspec.ValidationError, InvalidParameter) as error:
        raise Refused(f"{path}: {error}") from error
    return config


def as_pipelines_have_it(config: SchedulerConfig, family: Family) -> SchedulerConfig:
    """A configuration as diffusers' pipelines mend it: latents are not cut off, unless XL's makers
    say so, and Stable Diffusion's timesteps are one later."""
    if family.pooled:
        return msgspec.structs.replace(config, clip_sample=bool(config.clip_sample))
    return msgspec.structs.replace(config, clip_sample=False, steps_offset=1)


def weight_files(folder: Path, part: str) -> list[Path]:
    """The safetensors files of a part: those in full precision, where there are any.

    Raises:
        Refused: there are none.
    """
    files = sorted((folder / part).glob("*.safetensors"))
    full = [file for file in files if ".fp16" not in file.name and ".non_ema" not in file.name]
    if not (full or files):
        raise Refused(f"{folder / part}: no weights as safetensors; save them so")
    return full or files


def variant_of(folder: Path, part: str) -> str | None:
    """What diffusers calls the weights of a part that are read: fp16 where there are no others."""
    return "fp16" if ".fp16" in weight_files(folder, part)[0].name else None


def parameters_of(folder: Path, parts: tuple[str, ...]) -> int:
    """Numbers in the weight files of some parts.

    Raises:
        Refused: a part has none.
        ExportError: one is cut short.
    """
    headers = [
        read_safetensors_header(file) for part in parts for file in weight_files(folder, part)
    ]
    return sum(prod(entry["shape"]) for header in headers for _, entry in tensors_of(header))


def _is_there(entry: object) -> bool:
    return isinstance(entry, list) and any(one is not None for one in entry)


def _config(folder: Path, part: str, wanted: str) -> Json:
    path = folder / part / CONFIG_FILE
    config = read_object(path)
    if config.get("_class_name") != wanted:
        raise Refused(f"{path}: {shown(config.get('_class_name'))} has no form here; {wanted} has")
    return config


def _check_denoiser(folder: Path, unet: Json, family: Family) -> None:
    path = folder / "unet" / CONFIG_FILE
    wanted = "text_time" if family.pooled else None
    if unet.get("addition_embed_type") != wanted:
        told = shown(unet.get("addition_embed_type"))
        raise Refused(f"{path}: addition_embed_type {told} has no form in such a pipeline")
    for field in ("time_cond_proj_dim", "class_embed_type", "encoder_hid_dim_type"):
        if unet.get(field) is not None:
            raise Refused(f"{path}: {field} {shown(unet[field])} has no form here")


def _blocks(folder: Path, part: str, config: Json) -> list[int]:
    blocks = config.get("block_out_channels")
    if not isinstance(blocks, list) or not blocks or not all(map(is_count, blocks)):
        path = folder / part / CONFIG_FILE
        raise Refused(f"{path}: block_out_channels must be counts, not {shown(blocks)}")
    return blocks


def _count(folder: Path, part: str, config: Json, field: str, unsaid: int) -> int:
    number = config.get(field, unsaid)
    if not is_count(number) or not number:
        path = folder / part / CONFIG_FILE
        raise Refused(f"{path}: {field} must be a whole number above 0, not {shown(number)}")
    return int(number)
