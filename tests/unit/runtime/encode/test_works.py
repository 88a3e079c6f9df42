"""Scores, labels and fillings are told in order, within the size of an event, whatever is ready
first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.api import (
    Classify,
    Event,
    Fill,
    Filling,
    Fillings,
    Finished,
    Label,
    Labels,
    Request,
    Score,
    Scores,
)
from nsedge.api.collecting import Collecting
from nsedge.api.found import MAX_ENTRIES
from nsedge.runtime.encode.embed_work import CosineWork, ScoreWork
from nsedge.runtime.encode.found_work import FillWork, LabelWork
from nsedge.runtime.encode.match_work import MatchWork
from nsedge.runtime.encode.rows import Picture
from nsedge.runtime.encode.work import EncodeWork


def request(task: Any) -> Request:
    return Request(request_id="r", model="m", task=task)


def told(work: EncodeWork, outputs: list[Any], order: list[int]) -> list[Event]:
    events: list[Event] = []
    for index in order:
        events += work.take(index, np.asarray(outputs[index], np.float32), 1.0)
    return events


def label_work(sizes: list[int]) -> LabelWork:
    return LabelWork(
        request=request(Classify(inputs=("x",) * len(sizes))),
        inputs=[(0,)] * len(sizes),
        find=lambda index, _: (Label(label=str(index), score=0.5),) * sizes[index],
        submitted_s=0.0,
    )


@given(st.data(), st.lists(st.integers(0, 1500), min_size=1, max_size=12))
def test_labels_come_in_the_order_of_inputs(data: st.DataObject, sizes: list[int]) -> None:
    order = data.draw(st.permutations(range(len(sizes))))
    work = label_work(sizes)
    events = told(work, [[0.0]] * len(sizes), list(order))
    *parts, end = events
    assert isinstance(end, Finished)
    assert work.ended
    at = 0
    for part in parts:
        assert isinstance(part, Labels)
        assert part.first == at
        at += len(part.labels)
        assert len(part.labels) == 1 or sum(map(len, part.labels)) <= MAX_ENTRIES
    assert at == len(sizes)
    found = [one for part in parts if isinstance(part, Labels) for one in part.labels]
    assert [len(one) for one in found] == sizes
    assert all(label.label == str(index) for index, one in enumerate(found) for label in one)


def test_fillings_are_counted_by_tokens() -> None:
    token = Filling(token_id=1, token="a", score=0.5)
    work = FillWork(
        request=request(Fill(inputs=("x", "y"))),
        inputs=[(0, 1), (2,)],
        find=lambda index, _: ((token,) * 600,) * (index + 1),
        submitted_s=0.0,
    )
    first, second, end = told(work, [[0.0], [0.0]], [0, 1])
    assert isinstance(first, Fillings)
    assert isinstance(second, Fillings)
    assert isinstance(end, Finished)
    assert (first.first, second.first) == (0, 1)
    assert [len(mask) for mask in second.masks[0]] == [600, 600]
    assert end.usage.prompt_tokens == 3


def test_scores_of_a_cross_encoder() -> None:
    work = ScoreWork(
        request=request(Score(query="q", documents=("a", "b", "c"))),
        inputs=[(0,)] * 3,
        activated=lambda logits: logits * 2,
        submitted_s=0.0,
    )
    events = told(work, [[1.0], [2.0], [3.0]], [2, 0, 1])
    gathered = Collecting()
    for event in events:
        gathered.saw(event)
    assert gathered.collected().scores == (2.0, 4.0, 6.0)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_cosines_to_the_query(order: list[int]) -> None:
    work = CosineWork(
        request=request(Score(query="q", documents=("a", "b"))),
        inputs=[(0,)] * 3,
        width=2,
        submitted_s=0.0,
    )
    scores, end = told(work, [[3.0, 0.0], [0.0, 5.0], [1.0, 1.0]], order)
    assert isinstance(scores, Scores)
    assert isinstance(end, Finished)
    assert scores.shape == (2, 1)
    found = np.frombuffer(scores.data, "<f4")
    assert found == pytest.approx([0.0, 0.5**0.5], abs=1e-6)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 2, 0]])
def test_the_nearest_of_given_labels(order: list[int]) -> None:
    names = ("up", "right")
    picture = Picture(np.zeros((3, 2, 2), np.uint8), 5)
    work = MatchWork(
        request=request(Classify(inputs=("x", "y"), labels=names)),
        candidates=[(1, 2), (3,)],
        inputs=[picture, (4,)],
        find=lambda _, cosines: tuple(
            Label(label=names[at], score=float(cosines[at])) for at in np.argsort(-cosines)
        ),
        width=2,
        submitted_s=0.0,
    )
    labels, end = told(work, [[0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [1.0, 0.0]], order)
    assert isinstance(labels, Labels)
    assert isinstance(end, Finished)
    assert labels.first == 0
    assert [[one.label for one in found] for found in labels.labels] == [
        ["up", "right"],
        ["right", "up"],
    ]
    assert labels.labels[0][0].score == pytest.approx(0.8)
    assert (end.usage.prompt_tokens, end.usage.images) == (4, 1)
