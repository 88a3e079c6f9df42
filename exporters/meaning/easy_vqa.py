"""easy-vqa: pictures of one shape in one colour each, 4,000 to learn from and 1,000 to be tested
on. What a picture shows is read from the questions and answers that come with it."""

from __future__ import annotations

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporters.cache import Cache
from exporters.model.wheels import Wheel

WHEEL = Wheel(
    package="easy-vqa",
    version="1.0",
    file="easy_vqa-1.0-py3-none-any.whl",
    sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
    size="3 MB",
)
SIDE = 64
COLOURS = frozenset({"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"})
SHAPES = frozenset({"circle", "rectangle", "triangle"})
DENIALS = frozenset({"no", "not"})


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture as it lies in its file (PNG), and what it shows; None where no question tells."""

    png: bytes
    colour: str | None
    shape: str | None

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """In RGB: [3, SIDE, SIDE]."""
        image = Image.open(io.BytesIO(self.png)).convert("RGB")
        return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))


def read_pictures(cache: Cache, part: str) -> list[Shown]:
    """The pictures of `part`, train or test, in the order of their numbers.

    Raises:
        ExportError: the package cannot be had.
    """
    with zipfile.ZipFile(WHEEL.fetch(cache)) as archive:
        folder = f"easy_vqa/data/{part}"
        told = facts(json.loads(archive.read(f"{folder}/questions.json")))
        return [
            Shown(
                png=archive.read(f"{folder}/images/{number}.png"),
                colour=_one(told[number] & COLOURS),
                shape=_one(told[number] & SHAPES),
            )
            for number in sorted(told)
        ]


def facts(questions: Iterable[tuple[str, str, int]]) -> dict[int, set[str]]:
    """The words of COLOURS and SHAPES that are true of each picture, by its number, as far as
    questions, their answers, and the number of the picture tell; or what remains once all others
    are denied."""
    true: dict[int, set[str]] = defaultdict(set)
    false: dict[int, set[str]] = defaultdict(set)
    for question, answer, number in questions:
        words = set(question.rstrip("?").split())
        said = words & (COLOURS | SHAPES)
        if answer not in ("yes", "no"):
            true[number] |= said | {answer}
        elif (answer == "yes") != bool(words & DENIALS):
            true[number] |= said
        else:
            false[number] |= said
    for number in false.keys() | true.keys():
        for all_of in (COLOURS, SHAPES):
            left = all_of - false[number]
            if not true[number] & all_of and len(left) == 1:
                true[number] |= left
    return true


def _one(words: set[str]) -> str | None:
    return words.pop() if len(words) == 1 else None
