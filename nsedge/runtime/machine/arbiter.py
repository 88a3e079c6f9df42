"""Which model of a device runs its next step.

Work is cut into steps: a decode step with the pieces of prompts in it, a batch of an encoder, a
denoising step. On one device one step runs at a time: steps that ran side by side would wait for
each other's threads in the middle of a product. Where streams of text and other work both wait,
they take turns, and within each of the two it is first come, first served. So nobody is passed
over more than once for each that waits beside him.

Between two steps of the streams, other work has so much time that a token comes after STRETCH times
its quiet step; `slice_s` tells what is left of it. Steps that are shorter share it, one that is
longer has it alone. A step that can stop within says where it can by `Seat.pause`, and is several
then.
"""

from __future__ import annotations

import enum
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from nsedge.api import Histogram
from nsedge.telemetry.histogram import WAIT_BOUNDS_S, Stopwatch

STRETCH = 1.6
"""How many quiet steps lie between two tokens of a stream with other work beside it, aimed at. What
steps overrun their time by comes on top: so the 99th percentile stays below 2 quiet ones."""
RECENT_STEPS = 32
QUIET_SHARE = 4
"""The quiet step is what so many times fewer than RECENT_STEPS took less than: the lower quartile,
as what is beside a step makes it longer, never shorter."""
RECENT_S = 0.25
"""Streams that ran no step for so long are not running."""
LEAST_SLICE_S = 0.002
"""No step is asked to be shorter."""
LEAST_SHARE = 0.3
"""Of the quiet step: as much time is left for other work, however long steps take just now."""
PIECE = 0.5
"""Of a slice: once it has passed, a step that can stop does. The rest is for the way to the next
place where it can."""
_WEIGHT = 0.2
"""Of the newest duration in a running mean."""


class Rank(enum.Enum):
    """Whose step it is."""

    STREAMS = "streams"
    """Of a model whose text is being read as it comes."""
    OTHERS = "others"


class Arbiter:
    """Gives the device to one step at a time. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._holder: Seat | None = None
        self._last = Rank.OTHERS
        self._waiting: dict[Rank, deque[Seat]] = {rank: deque() for rank in Rank}
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._quiet_s = 0.0
        self._stream_s = 0.0
        self._others_s = 0.0
        self._streamed_s = -math.inf
        self._waits = {rank: Stopwatch(WAIT_BOUNDS_S) for rank in Rank}

    def seat(self, rank: Rank) -> Seat:
        """A place for one thread that runs steps: `with seat:` around each."""
        return Seat(self, rank)

    def wanted(self, rank: Rank) -> bool:
        """Whether a step of `rank` waits."""
        return bool(self._waiting[rank])

    def waits(self) -> dict[Rank, Histogram]:
        """How long steps have waited for their turn."""
        return {rank: waits.read() for rank, waits in self._waits.items()}

    def slice_s(self) -> float | None:
        """How long a step of other work may take now; None where no streams run."""
        left_s = self._left_s()
        return None if left_s is None else max(LEAST_SLICE_S, left_s)

    def take(self, seat: Seat) -> None:
        """Wait for the device, and hold it."""
        with self._lock:
            if self._holder is None:
                self._holder = seat
                self._waits[seat.rank].add(0.0)
                return
            self._waiting[seat.rank].append(seat)
        began_s = self.clock()
        seat.called.wait()
        seat.called.clear()
        self._waits[seat.rank].add(self.clock() - began_s)

    def give(self, seat: Seat, took_s: float) -> None:
        """Let the next have it."""
        with self._lock:
            self._last = seat.rank
            if seat.rank is Rank.STREAMS:
                self._streamed(took_s)
            else:
                self._others_s += took_s
            self._holder = following = self._next()
            if following is not None:
                following.called.set()

    def _streamed(self, took_s: float) -> None:
        """A step of the streams has ended."""
        self._streamed_s, self._others_s = self.clock(), 0.0
        self._recent.append(took_s)
        self._quiet_s = sorted(self._recent)[len(self._recent) // QUIET_SHARE]
        self._stream_s = smoothed(self._stream_s, took_s)

    def _left_s(self) -> float | None:
        """Of the time for other work before the next step of the streams; None where none run."""
        if self.clock() - self._streamed_s > RECENT_S:
            return None
        spare_s = max(STRETCH * self._quiet_s - self._stream_s, LEAST_SHARE * self._quiet_s)
        return spare_s - self._others_s

    def _next(self) -> Seat | None:
        streams, others = (self._waiting[rank] for rank in Rank)
        if others and (not streams or self._last is Rank.STREAMS or self._fits(others[0])):
            return others.popleft()
        return streams.popleft() if streams else None

    def _fits(self, seat: Seat) -> bool:
        """Whether a step is as short as what others have left of the time before the streams'."""
        left_s = self._left_s()
        return left_s is not None and seat.usual_s <= left_s


class Seat:
    """One thread's place before a device; holds it within `with`. Not to be entered twice."""

    def __init__(self, arbiter: Arbiter, rank: Rank) -> None:
        self.rank = rank
        self.called = threading.Event()
        """It is this one's turn."""
        self.usual_s = math.inf
        """A running mean of what its steps take; nobody knows at first."""
        self._arbiter = arbiter
        self._began_s = 0.0

    def __enter__(self) -> None:
        self._arbiter.take(self)
        self._began_s = self._arbiter.clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        took_s = self._arbiter.clock() - self._began_s
        self.usual_s = smoothed(self.usual_s, took_s)
        self._arbiter.give(self, took_s)

    def slice_s(self) -> float | None:
        """How long its next step may take; None is as long as it likes."""
        return None if self.rank is Rank.STREAMS else self._arbiter.slice_s()

    def pause(self) -> None:
        """Within a step of other work that can stop here: let a stream's step that waits come in
        between, once this one has taken PIECE of what it may. What follows is a step of its own."""
        if not self._arbiter.wanted(Rank.STREAMS):
            return
        if self._arbiter.clock() - self._began_s >= PIECE * (self.slice_s() or LEAST_SLICE_S):
            self.__exit__(None, None, None)
            self.__enter__()


def smoothed(mean: float, newest: float) -> float:
    """The running mean with one more; `mean` is 0 or infinite where there was none."""
    return mean + _WEIGHT * (newest - mean) if 0.0 < mean < math.inf else newest
