"""The steps from a picture to what a graph takes, by numbers."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from nsedge.api import Media
from nsedge.api.media import RAW_PICTURE
from nsedge.bundle.pictures import Crop, PictureSteps, Resize
from nsedge.errors import InvalidMedia, MessageTooLarge
from nsedge.runtime.vision.levels import level_table, normalised, pattern
from nsedge.runtime.vision.preparing import prepare
from nsedge.runtime.vision.reader import PictureReader

SQUARE = PictureSteps(resize=Resize(height=4, width=4, filter="box"), rescale=1 / 255)


def frame(height: int, width: int, *, level: int = 200) -> Media:
    array = np.full((height, width, 3), level, np.uint8)
    return Media(type=RAW_PICTURE, data=array.tobytes(), shape=array.shape, dtype="uint8")


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [(100, 200, (10, 20)), (200, 100, (20, 10)), (99, 100, (10, 10)), (10, 10, (10, 10))],
)
def test_the_shorter_side_decides(height: int, width: int, wanted: tuple[int, int]) -> None:
    assert Resize(shortest_edge=10, filter="bicubic").target(height, width) == wanted


def test_levels_are_rescaled_and_normalised_by_channel() -> None:
    steps = PictureSteps(
        crop=Crop(height=1, width=1), rescale=0.5, mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0)
    )
    pictures = np.array([[[[10]], [[20]], [[30]]]], np.uint8)
    made = normalised(pictures, level_table(steps))
    assert made.dtype == np.float32
    assert made.ravel().tolist() == [4.0, 4.0, 3.0]


def test_the_middle_is_cropped_and_what_lacks_is_black() -> None:
    steps = PictureSteps(crop=Crop(height=3, width=3), rescale=1.0)
    array = np.arange(5 * 5, dtype=np.uint8).reshape(5, 5, 1).repeat(3, 2)
    media = Media(type=RAW_PICTURE, data=array.tobytes(), shape=array.shape, dtype="uint8")
    made = prepare(media, steps, max_pixels=100)
    assert np.array_equal(made[0], array[1:4, 1:4, 0])
    small = prepare(frame(1, 2), steps, max_pixels=100)
    assert small[0].tolist() == [[0, 0, 0], [0, 200, 200], [0, 0, 0]]


def test_a_picture_comes_out_as_the_graph_takes_it() -> None:
    made = prepare(frame(40, 80), SQUARE, max_pixels=4000)
    assert (made.shape, made.dtype) == ((3, 4, 4), np.uint8)
    assert made.flags["C_CONTIGUOUS"]
    assert (made == 200).all()


def test_a_strip_that_would_grow_without_measure_is_refused() -> None:
    steps = PictureSteps(
        resize=Resize(shortest_edge=224, filter="bicubic"),
        crop=Crop(height=224, width=224),
        rescale=1 / 255,
    )
    with pytest.raises(MessageTooLarge, match=r"a picture of 6720000 x 224 pixels"):
        prepare(frame(1, 30000), steps, max_pixels=64_000_000)


def test_a_reader_names_the_input() -> None:
    reader = PictureReader(SQUARE, max_pixels=100)
    with pytest.raises(InvalidMedia, match=r"input 7: 1 bytes are no picture") as caught:
        reader.read(Media(type="image/png", data=b"x"), 7)
    assert caught.value.param == "inputs"
    assert reader.read(frame(4, 4), 0).shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({"rescale": 1.0}, "pictures come out in one size"),
        ({"rescale": 1.0, "resize": {"shortest_edge": 4, "filter": "box"}}, "in one size"),
        ({"rescale": 1.0, "resize": {"height": 4, "filter": "box"}}, "shortest_edge, or height"),
        (
            {"rescale": 1.0, "resize": {"shortest_edge": 1, "width": 4, "filter": "box"}},
            "shortest_edge, or height",
        ),
        ({"rescale": 1.0, "resize": {"height": 4, "width": 4, "filter": "x"}}, "filter"),
        ({"rescale": 1.0, "crop": {"height": 1, "width": 1}, "std": [1, 0, 1]}, "std must be"),
    ],
)
def test_steps_that_lead_nowhere_are_refused(steps: dict[str, object], told: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.json.decode(msgspec.json.encode(steps), type=PictureSteps)


def test_patterns_differ_and_never_change() -> None:
    made = [pattern(number, 32, 48) for number in range(8)]
    assert {each.shape for each in made} == {(3, 32, 48)}
    assert len({each.tobytes() for each in made}) == 8
    assert made[0][:, 3, 5].tolist() == [25, 0, 8]
    assert all(each.std() > 10 for each in made)
