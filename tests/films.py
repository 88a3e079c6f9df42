"""Films to test with: each frame says by its grey what number it has."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

STEP = 8
"""Of the grey of one frame to that of the next."""


def still(number: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """The frame of that number, width x height, in grey."""
    return Image.new("RGB", size, (10 + STEP * (number % 28),) * 3)


def number_of(picture: Image.Image | NDArray[np.uint8]) -> int:
    """Which frame a picture is."""
    return round((float(np.asarray(picture).mean()) - 10) / STEP)


def film(
    frames: int = 20,
    *,
    fps: int = 5,
    size: tuple[int, int] = (64, 48),
    form: str = "mp4",
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    turn: int = 0,
    pictures: Sequence[Image.Image] | None = None,
) -> bytes:
    """A film in a container; `turn` is by how many degrees players turn it. Of pictures, where any
    are given."""
    shown = [still(number, size) for number in range(frames)] if pictures is None else pictures
    with tempfile.NamedTemporaryFile() as file:  # FFmpeg opens it again to put headers first
        with av.open(file.name, "w", format=form, options=options or {}) as out:
            stream = out.add_stream(codec, rate=fps, options={"g": "6", "bf": "2", "crf": "10"})
            stream.width, stream.height = shown[0].size
            stream.pix_fmt = "yuv420p"
            if turn:
                stream.set_display_rotation(turn)
            for number, picture in enumerate(shown):
                frame = av.VideoFrame.from_image(picture)
                frame.pts, frame.time_base = number, Fraction(1, fps)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return Path(file.name).read_bytes()


def sound_alone(form: str = "mp4") -> bytes:
    """A container with sound and no film."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as out:
        stream = out.add_stream("aac", rate=16_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 16_000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def animation(
    frames: int = 6, *, form: str = "GIF", shown_ms: int = 500, size: tuple[int, int] = (64, 48)
) -> bytes:
    """An animation in GIF or WebP."""
    file = io.BytesIO()
    first, *others = (still(number, size) for number in range(frames))
    more = {"lossless": True} if form == "WEBP" else {}
    first.save(file, form, save_all=True, append_images=others, duration=shown_ms, loop=0, **more)
    return file.getvalue()
