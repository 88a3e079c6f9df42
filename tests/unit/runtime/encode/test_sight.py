"""Pictures of requests become rows; a request goes on once, or ends here."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from nsedge.api import Chat, Event, Failed, Finished, FinishReason, Media, Message, Request, Role
from nsedge.runtime.encode.loop import BatchLimits, EncodeLoop
from nsedge.runtime.encode.row_cache import RowCache, name_of
from nsedge.runtime.encode.rows import Picture, Pieces
from nsedge.runtime.encode.sight_work import Floats, SightWork
from nsedge.runtime.machine.arbiter import Arbiter, Rank
from tests.fakes import FakeClock

POISON, ODD = 66, 77


@dataclass
class FakeEncoder:
    """Makes three rows of a picture, of its first level; fails on POISON, and makes two of ODD."""

    batches: list[int] = field(default_factory=list)
    failing: int = 0
    """Runs that are still to fail."""

    def run(self, pictures: Sequence[Picture]) -> list[Floats]:
        self.batches.append(len(pictures))
        if self.failing:
            self.failing -= 1
            raise RuntimeError("not now")
        levels = [int(one.pixels.flat[0]) for one in pictures]
        if POISON in levels:
            raise RuntimeError("poisoned")
        return [np.full((2 if one == ODD else 3, 4), one, np.float32) for one in levels]


class Rig:
    """A loop that the test steps."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.encoder = FakeEncoder()
        self.events: dict[str, list[Event]] = {}
        self.went: dict[str, list[Floats]] = {}
        self.new: dict[str, list[str]] = {}
        self.cache = RowCache(most_bytes=1 << 20)
        self.loop = EncodeLoop(
            runner=self.encoder,
            limits=BatchLimits(tokens=64, rows=8, waiting=100),
            seat=Arbiter(clock=self.clock).seat(Rank.OTHERS),
            deliver=lambda batch: [emit(event) for emit, event in batch],
            clock=self.clock,
        )

    def work(
        self, name: str, *levels: int, known: dict[str, Floats] | None = None, within_s: float = 60
    ) -> SightWork:
        known = known or {}
        task = Chat(messages=(Message(role=Role.USER, content="see"),))
        request = Request(request_id=name, model="m", task=task, deadline_s=within_s)

        def go_on(rows: Sequence[Floats], new: Iterable[tuple[str, Floats]]) -> None:
            if any(len(one) != 3 for one in rows):
                raise ValueError("2 rows for 3 tokens")
            self.went[name] = list(rows)
            self.new[name] = []
            for key, made in new:
                self.new[name].append(key)
                self.cache.put(key, made)

        return SightWork(
            request=request,
            names=[*known, *map(str, levels)],
            known=known,
            taken={
                str(level): Pieces(pieces=[Picture(np.full((3, 2, 2), level, np.uint8), 3)])
                for level in levels
            },
            go_on=go_on,
            submitted_s=self.clock(),
            look=self.cache.get,
        )

    def ask(self, name: str, *levels: int, **more: float) -> SightWork:
        work = self.work(name, *levels, **more)  # type: ignore[arg-type]
        self.loop.submit(work, self.events.setdefault(name, []).append)
        return work

    def step(self) -> None:
        self.loop.drain_inbox(wait=False)
        self.loop.step()


def test_requests_share_a_batch_and_go_on_without_an_event() -> None:
    rig = Rig()
    works = [rig.ask("a", 1, 2), rig.ask("b", 3)]
    rig.step()
    assert rig.encoder.batches == [3]
    assert [rows[0, 0] for rows in rig.went["a"]] == [1, 2]
    assert [rows[0, 0] for rows in rig.went["b"]] == [3]
    assert rig.events == {"a": [], "b": []}
    assert all(work.went_on for work in works)
    assert rig.new == {"a": ["1", "2"], "b": ["3"]}


def test_a_request_that_went_on_is_gone_with_its_last_reference() -> None:
    rig = Rig()
    seen = weakref.ref(rig.ask("a", 1, 2))
    gc.disable()
    try:
        rig.step()
        assert seen() is None
    finally:
        gc.enable()


def test_a_picture_of_several_requests_is_encoded_once() -> None:
    rig = Rig()
    rig.ask("a", 1)
    rig.ask("b", 2, 1)
    for _ in range(2):
        rig.step()
    assert rig.encoder.batches == [2]
    assert [rows[0, 0] for rows in rig.went["b"]] == [2, 1]
    rig.ask("c", 1)  # it was read before the rows were known
    rig.step()
    assert rig.encoder.batches == [2]
    assert rig.loop.stats().images == 2
    assert rig.loop.is_idle()
    assert rig.events == {"a": [], "b": [], "c": []}
    assert sorted(rig.went) == ["a", "b", "c"]


def test_where_the_first_fails_or_is_cancelled_the_next_has_its_own() -> None:
    rig = Rig()
    first, _, _ = rig.ask("a", 1), rig.ask("b", 1), rig.ask("c", 1)
    rig.loop.cancel(first)
    rig.encoder.failing = 1
    for _ in range(3):
        rig.step()
    assert [type(event) for event in rig.events["a"]] == [Finished]
    assert [type(event) for event in rig.events["b"]] == [Failed]
    assert rig.events["c"] == []
    assert list(rig.went) == ["c"]


def test_pieces_of_one_picture_are_joined_whoever_had_them_encoded() -> None:
    rig = Rig()
    pieces = [Picture(np.full((3, 2, 2), level, np.uint8), 3) for level in (1, 2)]
    whole: list[Floats] = []

    def go_on(rows: Sequence[Floats], new: Iterable[tuple[str, Floats]]) -> None:
        whole.extend(rows)
        for name, made in new:
            rig.cache.put(name, made)

    def work(request: str) -> SightWork:
        task = Chat(messages=(Message(role=Role.USER, content="see"),))
        return SightWork(
            request=Request(request_id=request, model="m", task=task),
            names=["tiled"],
            known={},
            taken={"tiled": Pieces(pieces=pieces)},
            go_on=go_on,
            submitted_s=rig.clock(),
            look=rig.cache.get,
        )

    for request in "ab":
        rig.loop.submit(work(request), rig.events.setdefault(request, []).append)
    for _ in range(2):
        rig.step()
    assert rig.encoder.batches == [2]
    for rows in whole:
        assert rows[:, 0].tolist() == [1, 1, 1, 2, 2, 2]
    assert len(whole) == 2


def test_a_picture_that_fails_fails_its_request_alone() -> None:
    rig = Rig()
    for name, levels in (("a", (1,)), ("bad", (2, POISON)), ("odd", (ODD,)), ("b", (3,))):
        rig.ask(name, *levels)
    rig.step()
    assert sorted(rig.went) == ["a", "b"]
    for name, told in (("bad", "the model failed on input 1"), ("odd", "do not fit their places")):
        (event,) = rig.events[name]
        assert isinstance(event, Failed)
        assert told in event.message


def test_a_request_that_is_cancelled_or_late_ends_here_once() -> None:
    rig = Rig()
    cancelled, _ = rig.ask("a", 1), rig.ask("late", 2, within_s=1.0)
    rig.loop.cancel(cancelled)
    rig.clock.advance(2.0)
    rig.step()
    (event,) = rig.events["a"]
    assert isinstance(event, Finished)
    assert event.reason is FinishReason.CANCELLED
    (late,) = rig.events["late"]
    assert isinstance(late, Failed)
    assert late.code == "deadline_exceeded"
    assert rig.went == {}


def test_one_that_went_on_is_not_cancelled_here() -> None:
    rig = Rig()
    work = rig.ask("a", 1)
    rig.step()
    rig.loop.cancel(work)
    rig.step()
    assert rig.events["a"] == []


def test_a_cancellation_before_its_request_is_here_waits_for_the_next() -> None:
    """Who cancels while a request is handed over does so again once it is here."""
    rig = Rig()
    work = rig.work("a", 1)
    rig.loop.cancel(work)
    rig.loop.drain_inbox(wait=False)
    rig.loop.submit(work, rig.events.setdefault("a", []).append)
    rig.loop.cancel(work)
    rig.step()
    (event,) = rig.events["a"]
    assert isinstance(event, Finished)
    assert event.reason is FinishReason.CANCELLED


def test_rows_are_kept_within_a_budget() -> None:
    rows = np.zeros((4, 4), np.float32)
    cache = RowCache(most_bytes=3 * rows.nbytes)
    for name in "abc":
        cache.put(name, rows)
    assert cache.get("a") is rows
    cache.put("d", rows)
    assert cache.get("b") is None
    assert [cache.get(name) is rows for name in "acd"] == [True] * 3
    assert cache.bytes == 3 * rows.nbytes
    cache.put("big", np.zeros((100, 4), np.float32))
    assert cache.get("big") is None
    cache.clear()
    assert (cache.bytes, cache.get("a")) == (0, None)


@pytest.mark.parametrize("same", [True, False])
def test_frames_are_named_by_how_they_lie(same: bool) -> None:
    shapes = ((2, 3, 1), (2, 3, 1) if same else (3, 2, 1))
    one, other = (
        Media(type="image/x-raw", data=bytes(6), shape=shape, dtype="uint8") for shape in shapes
    )
    assert (name_of(one) == name_of(other)) is same
    assert name_of(Media(type="image/png", data=b"x")) != name_of(one)
