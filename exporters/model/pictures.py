"""How a model folder says that pictures are prepared: preprocessor_config.json, as our steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from exporters.errors import Refused
from exporters.model.files import Json, is_count, read_object, shown
from nsedge.bundle.pictures import CHANNELS, Crop, PictureSteps, Resize

SETTINGS_FILE = "preprocessor_config.json"
WHOLE_FILE = "processor_config.json"
"""Where newer libraries keep the same, under `image_processor`."""
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's number of them."""
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]
DEFAULTS: dict[str, Json] = {
    "CLIPImageProcessor": {
        "size": {"shortest_edge": 224},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": 224,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    },
    "SiglipImageProcessor": {
        "size": {"height": 224, "width": 224},
        "resample": 3,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "Gemma3ImageProcessor": {
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "DeiTImageProcessor": {
        "size": {"height": 256, "width": 256},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "image_mean": HALF,
        "image_std": HALF,
    },
    "ViTImageProcessor": {
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "image_mean": HALF,
        "image_std": HALF,
    },
}
"""What transformers' processors do where a file does not say."""
TILE_PROCESSORS = ("Idefics3ImageProcessor", "SmolVLMImageProcessor")
TILE_DEFAULTS: Json = {
    "size": {"longest_edge": 4 * 364},
    "max_image_size": {"longest_edge": 364},
    "resample": 1,
    "do_resize": True,
    "do_image_splitting": True,
    "image_mean": HALF,
    "image_std": HALF,
}
OLDER = {
    "CLIPFeatureExtractor": "CLIPImageProcessor",
    "DeiTFeatureExtractor": "DeiTImageProcessor",
    "ViTFeatureExtractor": "ViTImageProcessor",
}


def read_steps(folder: Path) -> PictureSteps:
    """The steps of a folder.

    Raises:
        Refused: there are none, or they have no form here.
        ExportError: the file is damaged.
    """
    path, stated = stated_settings(folder)
    named = stated.get("image_processor_type") or stated.get("feature_extractor_type")
    kind = str(named).removesuffix("Fast")
    defaults = DEFAULTS.get(OLDER.get(kind, kind))
    if defaults is None:
        known = ", ".join(DEFAULTS)
        raise Refused(f"{path}: {shown(named)} has no form here; known are {known}")
    settings = defaults | {key: value for key, value in stated.items() if value is not None}
    if settings.get("do_pad"):
        raise Refused(f"{path}: do_pad has no form here")
    if is_count(settings["size"]):  # as it is meant where the processor has no other word for it
        settings["size"] = dict.fromkeys(defaults["size"], settings["size"])
    try:
        return steps_of(settings, path)
    except ValueError as error:  # msgspec's are such, too
        raise Refused(f"{path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How a picture is cut into tiles: `steps` bring a tile to what the encoder takes."""

    steps: PictureSteps
    longest_edge: int
    splits: bool


def read_tiles(folder: Path) -> Tiles:
    """The tiles of a folder whose processor is Idefics3's or SmolVLM's.

    Raises:
        Refused: it is another's, or there are none.
        ExportError: the file is damaged.
    """
    path, settings = picture_settings(folder, TILE_PROCESSORS, TILE_DEFAULTS)
    edges = [settings[key] for key in ("size", "max_image_size")]
    for edge in edges:
        if not isinstance(edge, Mapping) or set(edge) != {"longest_edge"}:
            raise Refused(f"{path}: a size of {shown(edge)} has no form here")
    if not settings["do_resize"]:
        raise Refused(f"{path}: pictures that are not resized have no form here")
    longest, tile = (_side(edge["longest_edge"], path) for edge in edges)
    size = {"height": tile, "width": tile}
    try:
        steps = steps_of(settings | {"size": size}, path)
    except ValueError as error:  # msgspec's are such, too
        raise Refused(f"{path}: {error}") from error
    return Tiles(steps=steps, longest_edge=longest, splits=bool(settings["do_image_splitting"]))


def picture_settings(folder: Path, known: tuple[str, ...], defaults: Json) -> tuple[Path, Json]:
    """The file of a folder whose processor is one of the known ones, and what it says, with
    `defaults` where it does not.

    Raises:
        Refused: it is another's, or there is none.
        ExportError: the file is damaged.
    """
    path, stated = stated_settings(folder)
    kind = str(stated.get("image_processor_type")).removesuffix("Fast")
    if kind not in known:
        raise Refused(f"{path}: {shown(kind)} has no form here; known are {', '.join(known)}")
    return path, defaults | {key: value for key, value in stated.items() if value is not None}


def stated_settings(folder: Path) -> tuple[Path, Json]:
    """The file that says how pictures are prepared, and what it says.

    Raises:
        Refused: there is none.
        ExportError: the file is damaged.
    """
    path = folder / SETTINGS_FILE
    if path.is_file():
        return path, read_object(path)
    whole = folder / WHOLE_FILE
    stated = read_object(whole).get("image_processor") if whole.is_file() else None
    if not isinstance(stated, dict):
        raise Refused(f"{path}: it is missing, and tells how pictures are prepared")
    return whole, stated


def steps_of(settings: Json, path: Path) -> PictureSteps:
    """The steps that settings say.

    Raises:
        Refused: they have no form here.
        ValueError: a value is of another type or out of its bounds.
    """
    normalises = settings.get("do_normalize", True)
    fields = {
        "resize": _resize(settings, path) if settings.get("do_resize", True) else None,
        "crop": _crop(settings, path) if settings.get("do_center_crop") else None,
        "rescale": settings.get("rescale_factor", 1 / 255)
        if settings.get("do_rescale", True)
        else 1.0,
        "mean": _levels(settings["image_mean"]) if normalises else (0.0,) * CHANNELS,
        "std": _levels(settings["image_std"]) if normalises else (1.0,) * CHANNELS,
    }
    return msgspec.convert(fields, PictureSteps, from_attributes=True)


def _resize(settings: Json, path: Path) -> Resize:
    size, number = settings["size"], settings["resample"]
    if not is_count(number) or number >= len(FILTERS):
        raise Refused(f"{path}: resample must be a filter's number, not {shown(number)}")
    name = FILTERS[number]
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return Resize(shortest_edge=_side(size["shortest_edge"], path), filter=name)
    height, width = _sides(size, path)
    return Resize(height=height, width=width, filter=name)


def _crop(settings: Json, path: Path) -> Crop:
    height, width = _sides(settings["crop_size"], path)
    return Crop(height=height, width=width)


def _sides(size: Any, path: Path) -> tuple[int, int]:
    if is_count(size):
        size = {"height": size, "width": size}
    if not isinstance(size, Mapping) or set(size) != {"height", "width"}:
        raise Refused(f"{path}: a size of {shown(size)} has no form here")
    return _side(size["height"], path), _side(size["width"], path)


def _side(side: Any, path: Path) -> int:
    if not is_count(side) or not side:
        raise Refused(f"{path}: a size must be whole numbers above 0, not {shown(side)}")
    return int(side)


def _levels(stated: Any) -> tuple[Any, ...]:
    """One for each channel, where all have the same, too."""
    return tuple(stated) if isinstance(stated, list | tuple) else (stated,) * CHANNELS
