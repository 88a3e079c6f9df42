"""Sound in bounded memory between two threads."""

from __future__ import annotations

import threading
import weakref

import pytest

from nsedge.api import Feed, Mark
from nsedge.api.feed import MAX_MARKS
from nsedge.errors import OutOfOrder


def test_what_is_pushed_is_taken_in_order() -> None:
    feed = Feed()
    feed.push(b"ab")
    feed.push(b"cd")
    feed.mark(Mark.COMMIT)
    feed.push(b"e")
    taken = [feed.take(3) for _ in range(5)]
    assert taken == [b"abc", b"d", Mark.COMMIT, b"e", None]
    assert feed.taken_bytes == 5


def test_it_tells_once_that_something_came_and_each_time_that_something_went() -> None:
    feed, told = Feed(), list[str]()
    feed.came = lambda: told.append("came")
    feed.moved = lambda: told.append("moved")
    feed.push(b"ab")
    feed.push(b"cd")
    assert told == ["came"]
    assert feed.take(0) == b""
    assert told == ["came"]
    feed.take(9)
    assert told == ["came", "moved"]
    feed.mark(Mark.END)
    assert told == ["came", "moved", "came"]


def test_more_than_it_holds_is_refused_and_nothing_of_it_is_kept() -> None:
    feed = Feed(4)
    feed.push(b"abc")
    with pytest.raises(OutOfOrder, match="faster than it is heard: 3 bytes wait, and 2 more"):
        feed.push(b"de")
    assert feed.room_bytes == 1
    assert feed.take(9) == b"abc"
    feed.push(b"defg")


def test_marks_are_bounded_and_the_end_always_fits() -> None:
    feed = Feed()
    for _ in range(MAX_MARKS):
        feed.mark(Mark.COMMIT)
    with pytest.raises(OutOfOrder, match="64 marks wait"):
        feed.mark(Mark.COMMIT)
    feed.mark(Mark.END)
    assert feed.ended
    with pytest.raises(OutOfOrder, match="has ended"):
        feed.push(b"x")


def test_who_puts_waits_for_room_and_is_let_go_where_nobody_hears_any_more() -> None:
    feed, refused = Feed(4), list[str]()

    def put() -> None:
        try:
            feed.put(b"abcdefghij")
        except OutOfOrder as error:
            refused.append(error.message)

    thread = threading.Thread(target=put)
    thread.start()
    heard = b""
    while len(heard) < 6:
        taken = feed.take(1)
        heard += taken if isinstance(taken, bytes) else b""
    feed.close()
    thread.join()
    assert heard == b"abcdef"
    assert refused == ["the request has ended, and hears nothing"]
    assert feed.closed
    assert feed.take(9) is None


def test_a_closed_feed_holds_nobody_who_heard() -> None:
    class Hearer:
        def came(self) -> None:
            """Something came."""

    feed, hearer = Feed(), Hearer()
    feed.came = hearer.came
    gone = weakref.ref(hearer)
    feed.close()
    feed.came = hearer.came  # it comes too late
    del hearer
    assert gone() is None
