"""How a folder of Qwen2-VL or Qwen2.5-VL says that pictures are prepared, as our patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from exporters.errors import Refused
from exporters.model.files import Json, is_count, shown
from exporters.model.pictures import CLIP_MEAN, CLIP_STD, picture_settings, steps_of
from nsedge.bundle.patched import PatchedPicture
from nsedge.runtime.vision.patches import size_of

PROCESSORS = ("Qwen2VLImageProcessor", "Qwen2_5_VLImageProcessor")
LEAST, MOST = 56 * 56, 28 * 28 * 1280
DEFAULTS: Json = {
    "resample": 3,
    "do_resize": True,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
SHARED = {
    "patch_size": "patch_size",
    "temporal_patch_size": "temporal_patch_size",
    "merge_size": "spatial_merge_size",
}
"""What the processor says, and what the encoder calls it."""
WINDOWED: Json = {"window_size": 112}
"""What Qwen2.5-VL's configuration says by default."""
EXAMPLE_UNITS = 6, 10
"""Rows and columns of a picture as golden vectors are made of: its last windows are not full."""


def read_patched(folder: Path, image: Json, *, windowed: bool = False) -> PatchedPicture:
    """The pictures of a folder, whose encoder's configuration is `image`. windowed: the encoder is
    of a family that attends within windows, whether or not it says how large they are.

    Raises:
        Refused: they have no form here, or the encoder and the processor disagree.
        ExportError: the file is damaged.
    """
    path, settings = picture_settings(folder, PROCESSORS, DEFAULTS)
    for own, meant in SHARED.items():
        count = settings[own]
        if count != image.get(meant, DEFAULTS[own]) or not is_count(count) or not count:
            raise Refused(
                f"{path}: {own} is {shown(count)}, and the encoder's {meant}"
                f" {shown(image.get(meant))}"
            )
    if not settings["do_resize"]:
        raise Refused(f"{path}: pictures that are not resized have no form here")
    least, most = _bounds(settings, path)
    unit = settings["patch_size"] * settings["merge_size"]
    fields = {
        "patch": settings["patch_size"],
        "frames": settings["temporal_patch_size"],
        "merge": settings["merge_size"],
        "window": _window({**(WINDOWED if windowed else {}), **image}, unit, path),
        "least_pixels": least,
        "most_pixels": most,
    }
    try:
        made = _of_size(fields, settings, path, tuple(units * unit for units in EXAMPLE_UNITS))
        return _of_size(fields, settings, path, size_of(made, *made.steps.size))
    except ValueError as error:  # msgspec's are such, too
        raise Refused(f"{path}: {error}") from error


def _of_size(fields: Json, settings: Json, path: Path, size: tuple[int, ...]) -> PatchedPicture:
    """The same for golden pictures of a height and width."""
    height, width = size
    unit = fields["patch"] * fields["merge"]
    steps = steps_of(settings | {"size": {"height": height, "width": width}}, path)
    rows = height // unit * (width // unit)
    return msgspec.convert(
        {**fields, "steps": steps, "rows": rows, "layout": "patched"},
        PatchedPicture,
        from_attributes=True,
    )


def _bounds(settings: Json, path: Path) -> tuple[int, int]:
    """The least and the most pixels of a picture: `min_pixels` and `max_pixels` go before what
    `size` says.

    Raises:
        Refused: they are no whole numbers, or `size` has another form.
    """
    size: Any = settings.get("size", {"shortest_edge": LEAST, "longest_edge": MOST})
    edges = size if isinstance(size, dict) else {}
    least = settings.get("min_pixels", edges.get("shortest_edge"))
    most = settings.get("max_pixels", edges.get("longest_edge"))
    if least is None or most is None:
        raise Refused(f"{path}: a size of {shown(size)} has no form here")
    if not is_count(least) or not is_count(most):
        raise Refused(f"{path}: {shown((least, most))} are no least and most pixels")
    return least, most


def _window(image: Json, unit: int, path: Path) -> int:
    """Rows along a side of a window; 0 where all layers attend to all patches."""
    if "window_size" not in image:
        return 0
    window = image["window_size"]
    if not is_count(window) or window // unit < 1:
        raise Refused(f"{path}: windows of {shown(window)} pixels have no form here")
    return window // unit
