"""How a folder of LLaVA-Next says that pictures are prepared: preprocessor_config.json, as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporters.errors import Refused
from exporters.model.files import Json, is_count, shown
from exporters.model.pictures import CLIP_MEAN, CLIP_STD, picture_settings, steps_of
from nsedge.bundle.anyres import AnyresPicture

PROCESSOR = "LlavaNextImageProcessor"
RESOLUTIONS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
DEFAULTS: Json = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "image_grid_pinpoints": RESOLUTIONS,
    "resample": 3,
    "do_resize": True,
    "do_center_crop": True,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}


def read_anyres(folder: Path, whole: Json, image: Json) -> AnyresPicture:
    """The pictures of a folder whose model is LLaVA-Next; `whole` is its configuration, `image`
    that of its encoder.

    Raises:
        Refused: they have no form here, or the model and its processor disagree.
        ExportError: the file is damaged.
    """
    path, settings = picture_settings(folder, (PROCESSOR,), DEFAULTS)
    side, patch = image.get("image_size", 224), image.get("patch_size", 32)
    if not is_count(side) or not is_count(patch) or not side or not patch or side % patch:
        raise Refused(f"{folder}: patches of {shown(patch)} do not fill {shown(side)} pixels")
    for key in ("size", "crop_size"):
        if (found := _square(settings[key])) != side:
            raise Refused(
                f"{path}: {key} is {shown(settings[key])}, and the encoder takes {side} x {side}"
                if found
                else f"{path}: {key} of {shown(settings[key])} has no form here"
            )
    if not settings["do_resize"]:
        raise Refused(f"{path}: pictures that are not resized have no form here")
    points = settings["image_grid_pinpoints"]
    if (meant := whole.get("image_grid_pinpoints", RESOLUTIONS)) != points:
        raise Refused(
            f"{path}: image_grid_pinpoints are {shown(points)}, and the model's {shown(meant)}"
        )
    across = side // patch
    size = {"height": side, "width": side}
    try:
        return AnyresPicture(
            steps=steps_of(settings | {"size": size, "do_center_crop": False}, path),
            rows=across * (across + 1),
            patches=across,
            resolutions=_sizes(points),
        )
    except ValueError as error:  # msgspec's are such, too
        raise Refused(f"{path}: {error}") from error


def _square(size: Any) -> int:
    """The side of what is square; 0 where it is not."""
    if is_count(size):
        return size
    sides = list(size.values()) if isinstance(size, dict) else []
    return sides[0] if sides and is_count(sides[0]) and set(sides) == {sides[0]} else 0


def _sizes(points: Any) -> tuple[tuple[int, int], ...]:
    pairs: list[Any] = points if isinstance(points, list) and points else [None]
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(is_count, pair)):
            raise ValueError(f"image_grid_pinpoints {shown(points)} are no sizes")
    return tuple((high, wide) for high, wide in pairs)
