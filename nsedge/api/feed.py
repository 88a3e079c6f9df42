"""Sound on its way to whoever hears it: bytes and marks, in order, in bounded memory."""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable

from nsedge.errors import OutOfOrder

CAPACITY_BYTES = 1 << 20
"""What a feed holds that nobody has heard yet."""
MAX_MARKS = 64
"""Marks that may wait in one."""


class Mark(enum.StrEnum):
    """What is said between two pieces of sound."""

    COMMIT = "commit"
    """What came so far is to be final now."""
    CLEAR = "clear"
    """What came so far and is not final is to be forgotten."""
    END = "end"
    """Nothing follows."""


def _nothing() -> None:
    pass


class Feed:
    """A queue of sound between one that speaks and one that hears. Thread-safe.

    `came` is called when there is something where there was nothing, on the thread that pushes;
    `moved` when something was taken, or it was closed, on the thread that does that. Neither may
    block. The first is for who hears to set (a closed feed does not keep it), the second for who
    speaks.
    """

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        """`capacity_bytes`: of sound that was pushed and not taken."""
        self.capacity_bytes = capacity_bytes
        self._came: Callable[[], None] = _nothing
        self.moved: Callable[[], None] = _nothing
        self._lock = threading.Lock()
        self._items: deque[bytearray | Mark] = deque()
        self._held_bytes = 0
        self._taken_bytes = 0
        self._marks = 0
        self._ended = False
        self._closed = False
        self._room = threading.Condition(self._lock)

    @property
    def came(self) -> Callable[[], None]:
        """Called when there is something where there was nothing."""
        return self._came

    @came.setter
    def came(self, came: Callable[[], None]) -> None:
        with self._lock:
            self._came = _nothing if self._closed else came

    @property
    def ended(self) -> bool:
        """Whether nothing may follow."""
        return self._ended

    @property
    def closed(self) -> bool:
        """Whether nobody hears any more."""
        return self._closed

    @property
    def room_bytes(self) -> int:
        """How much sound may be pushed now."""
        return self.capacity_bytes - self._held_bytes

    @property
    def taken_bytes(self) -> int:
        """How much sound was taken, of all that was pushed."""
        return self._taken_bytes

    def push(self, data: bytes) -> None:
        """Add sound.

        Raises:
            OutOfOrder: it has ended, or there is no room: the sound comes faster than it is heard.
        """
        if not data:
            return
        with self._lock:
            self._check_open()
            if len(data) > self.room_bytes:
                raise OutOfOrder(
                    f"the sound comes faster than it is heard: {self._held_bytes} bytes wait, and"
                    f" {len(data)} more are beyond the {self.capacity_bytes} that may",
                    param="data",
                )
            was_empty = not self._items
            last = self._items[-1] if self._items else None
            if isinstance(last, bytearray):
                last += data
            else:
                self._items.append(bytearray(data))
            self._held_bytes += len(data)
        if was_empty:
            self.came()

    def put(self, data: bytes) -> None:
        """Add sound of any length, and wait for room where there is none.

        Raises:
            OutOfOrder: it has ended, or nobody hears any more.
        """
        size = max(1, self.capacity_bytes // 2)
        for begin in range(0, len(data), size):
            piece = data[begin : begin + size]
            with self._room:
                self._room.wait_for(lambda: self._closed or self.room_bytes >= size)
            self.push(piece)

    def mark(self, mark: Mark) -> None:
        """Add a mark.

        Raises:
            OutOfOrder: it has ended, or too many marks wait.
        """
        with self._lock:
            self._check_open()
            if self._marks >= MAX_MARKS and mark is not Mark.END:
                raise OutOfOrder(f"{MAX_MARKS} marks wait, the most allowed", param="then")
            was_empty = not self._items
            self._items.append(mark)
            self._marks += 1
            self._ended = mark is Mark.END
        if was_empty:
            self.came()

    def take(self, most_bytes: int) -> bytes | Mark | None:
        """The next mark, or sound of at most `most_bytes`, which may be 0; None where nothing
        waits."""
        with self._lock:
            if not self._items:
                return None
            first = self._items[0]
            if isinstance(first, Mark):
                self._items.popleft()
                self._marks -= 1
                return first
            taken = bytes(first[:most_bytes])
            del first[:most_bytes]
            if not first:
                self._items.popleft()
            self._held_bytes -= len(taken)
            self._taken_bytes += len(taken)
            self._room.notify_all()
        if taken:
            self.moved()
        return taken

    def close(self) -> None:
        """Nobody hears any more: what waits is forgotten, and nothing is taken in. Idempotent."""
        with self._lock:
            self._closed = True
            self._came = _nothing  # a feed that is kept must not keep who heard
            self._items.clear()
            self._held_bytes = self._marks = 0
            self._room.notify_all()
        self.moved()

    def _check_open(self) -> None:
        if self._closed:
            raise OutOfOrder("the request has ended, and hears nothing", param="data")
        if self._ended:
            raise OutOfOrder("the sound has ended, and nothing follows", param="data")
