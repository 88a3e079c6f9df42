"""What reads inputs with pictures or sound: one thread, and a process in which pictures are made
ready."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nsedge.runtime.machine.arbiter import Arbiter, Rank
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.vision import apart


class MediaReader(ThreadPoolExecutor):
    """A `Host.media_reader`."""

    def __init__(self, arbiter: Arbiter, *, threads: int) -> None:
        """`arbiter`: of the processor; `threads` of a model's steps, 0 for one a core: where these
        leave a core, the process has it for itself and needs no turns."""
        needs_turns = not 0 < threads < usable_cores()
        seat = arbiter.seat(Rank.OTHERS) if needs_turns else None
        self._pictures = apart.PictureProcess(seat)
        super().__init__(
            1, thread_name_prefix="media", initializer=apart.use, initargs=(self._pictures,)
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread, and the process."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._pictures.close()
