"""Media in memory: what stays, what leaves, and who may name it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nsedge import api
from nsedge.errors import InvalidParameter, MessageTooLarge, Unavailable, UnknownMedia
from nsedge.ipc import messages as wire
from nsedge.ipc.media import Hold, MediaStore


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(store: MediaStore, data: bytes, owner: str = "me") -> str:
    """Have `data` brought and kept; its hash."""
    store.reserve(len(data))
    store.keep(data, hash_of(data), owner)
    store.check()
    return hash_of(data)


def test_the_longest_unused_leaves_first() -> None:
    store = MediaStore(30)
    first, second, third = (put(store, bytes([n]) * 10) for n in range(3))
    store.hold(first, "me")
    store.let_go(first)
    put(store, b"x" * 10)
    assert [store.has(one, "me") for one in (first, second, third)] == [True, False, True]
    put(store, b"y" * 20)
    assert [store.has(one, "me") for one in (first, second, third)] == [False, False, False]


def test_what_is_held_does_not_leave() -> None:
    store = MediaStore(30)
    held, loose = put(store, b"a" * 20), put(store, b"b" * 10)
    assert store.hold(held, "me") == b"a" * 20
    store.hold(held, "me")
    store.let_go(held)
    with pytest.raises(Unavailable) as caught:
        store.reserve(11)
    assert caught.value.retry_after_s
    assert store.has(loose, "me"), "nothing leaves for what does not fit then"
    put(store, b"c" * 10)
    store.let_go(held)
    put(store, b"d" * 30)
    assert not store.has(held, "me")


def test_what_is_on_its_way_has_its_room() -> None:
    store = MediaStore(30)
    store.reserve(20)
    with pytest.raises(Unavailable):
        store.reserve(11)
    assert not store.take(b"x" * 11, hash_of(b"x" * 11), "me")
    assert store.take(b"x" * 10, hash_of(b"x" * 10), "me")
    store.give_back(20)
    put(store, b"y" * 20)
    assert store.used_bytes == 30
    with pytest.raises(MessageTooLarge):
        store.reserve(31)


def test_the_same_bytes_are_kept_once() -> None:
    store = MediaStore(30)
    put(store, b"a" * 20)
    store.reserve(10)
    assert store.take(b"a" * 20, hash_of(b"a" * 20), "you")
    assert store.used_bytes == 30


def test_who_has_not_sent_them_cannot_name_them() -> None:
    store = MediaStore(30)
    sha256 = put(store, b"secret", "me")
    with pytest.raises(UnknownMedia):
        store.hold(sha256, "you")
    put(store, b"secret", "you")
    assert store.hold(sha256, "you") == b"secret"


def hold(store: MediaStore, owner: str = "me", most_bytes: int = 30) -> Hold:
    return Hold(store, owner=owner, most_bytes=most_bytes)


def png(**fields: object) -> wire.MediaPart:
    return wire.MediaPart(media_type="image/png", **fields)  # type: ignore[arg-type]


def finished() -> api.Finished:
    return api.Finished.cancelled("a")


def test_a_request_holds_its_media_until_its_end() -> None:
    store = MediaStore(30)
    named = put(store, b"a" * 10)
    held = hold(store)
    first, second = held.media(png(sha256=named)), held.media(png(data=b"b" * 10))
    assert (first.data, first.sha256, second.data) == (b"a" * 10, named, b"b" * 10)
    assert second.sha256 == hash_of(b"b" * 10)
    seen: list[api.Event] = []
    sink = held.until_end(seen.append)
    with pytest.raises(Unavailable):
        store.reserve(11)
    sink(api.Started(request_id="a", prompt_tokens=1, queue_s=0.0))
    with pytest.raises(Unavailable):
        store.reserve(11)
    sink(finished())
    store.reserve(30)
    held.release()
    store.check()
    assert len(seen) == 2


def test_given_media_are_taken_where_they_are_not_kept() -> None:
    store = MediaStore(5)
    held = hold(store)
    assert held.media(png(data=b"a" * 10)).data == b"a" * 10
    assert not store.has(hash_of(b"a" * 10), "me")
    seen: list[api.Event] = []
    held.until_end(seen.append)(finished())
    assert store.used_bytes == 0


def test_given_media_can_be_named_afterwards() -> None:
    store = MediaStore(30)
    hold(store).media(png(data=b"abc"))
    assert hold(store).media(png(sha256=hash_of(b"abc"))).data == b"abc"


def test_wrong_parts_are_refused() -> None:
    store = MediaStore(30)
    known = put(store, b"a" * 10)
    for part in (png(), png(data=b"x", sha256=known)):
        with pytest.raises(InvalidParameter, match="either data or sha256"):
            hold(store).media(part)
    with pytest.raises(UnknownMedia):
        hold(store).media(png(sha256=hash_of(b"nobody's")))
    other = put(store, b"b" * 10)
    tight = hold(store, most_bytes=19)
    tight.media(png(sha256=known))
    tight.media(png(sha256=known))
    with pytest.raises(MessageTooLarge):
        tight.media(png(sha256=other))
    tight.release()
    store.check()


SIZES = st.integers(1, 40)


class StoreMachine(RuleBasedStateMachine):
    """Any order of everything: the budget holds, and what is held stays."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MediaStore(100)
        self.coming: list[bytes] = []
        self.held: list[tuple[str, bytes]] = []
        self.known: set[bytes] = set()

    @rule(size=SIZES, letter=st.integers(0, 3))
    def begin(self, size: int, letter: int) -> None:
        try:
            self.store.reserve(size)
        except Unavailable:
            return
        self.coming.append(bytes([letter]) * size)

    @rule(keeps=st.booleans())
    def end(self, keeps: bool) -> None:
        if not self.coming:
            return
        data = self.coming.pop()
        if keeps:
            self.store.keep(data, hash_of(data), "me")
            self.known.add(data)
        else:
            self.store.give_back(len(data))

    @rule(size=SIZES, letter=st.integers(0, 3))
    def give(self, size: int, letter: int) -> None:
        data = bytes([letter]) * size
        if self.store.take(data, hash_of(data), "me"):
            self.known.add(data)

    @rule(which=st.integers(0, 200))
    def hold(self, which: int) -> None:
        if not self.known:
            return
        data = sorted(self.known)[which % len(self.known)]
        try:
            assert self.store.hold(hash_of(data), "me") == data
        except UnknownMedia:
            return
        self.held.append((hash_of(data), data))

    @rule()
    def let_go(self) -> None:
        if self.held:
            self.store.let_go(self.held.pop(0)[0])

    @invariant()
    def holds(self) -> None:
        self.store.check()
        assert all(self.store.has(sha256, "me") for sha256, _ in self.held)


StoreMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestStore = StoreMachine.TestCase
