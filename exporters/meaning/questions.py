"""easy-vqa's questions and their answers, by the picture that they are about."""

from __future__ import annotations

import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exporters.cache import Cache
from exporters.meaning.easy_vqa import WHEEL, Shown, read_pictures


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A picture, and questions about it with their answers: yes, no, a colour or a shape."""

    shown: Shown
    questions: tuple[tuple[str, str], ...]


def read_questions(cache: Cache, part: str) -> list[Asked]:
    """What is asked about the pictures of `part`, train or test, in the order of their numbers.

    Raises:
        ExportError: the package cannot be had.
    """
    with zipfile.ZipFile(WHEEL.fetch(cache)) as archive:
        rows = json.loads(archive.read(f"easy_vqa/data/{part}/questions.json"))
    by_picture: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for question, answer, number in rows:
        by_picture[number].append((question, answer))
    return [
        Asked(shown=shown, questions=tuple(by_picture[number]))
        for number, shown in zip(sorted(by_picture), read_pictures(cache, part), strict=True)
    ]


def usual_share(answers: Iterable[str]) -> float:
    """How often the answer that is given most is right: what is got by chance."""
    counted = Counter(answers)
    return max(counted.values()) / counted.total()


def blind_share(learnt: Iterable[Asked], questions: Sequence[tuple[str, str]]) -> float:
    """How often the answer that a question mostly gets in what is learnt from is right: what is got
    by reading questions and looking at no picture."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for one in learnt:
        for question, answer in one.questions:
            counted[question][answer] += 1
    right = 0
    for question, answer in questions:
        usual = counted[question].most_common(1)
        right += bool(usual) and usual[0][0] == answer
    return right / len(questions)
