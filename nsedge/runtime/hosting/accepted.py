"""A request that a model has accepted: its input is read on the reader's thread, then it is queued
with whatever runs the model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

from nsedge.api import Failed, Finished, Request
from nsedge.errors import NsedgeError
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.hosted import Host

log = logging.getLogger(__name__)

J = TypeVar("J")


class Accepted(Generic[J]):
    """Implements `hosted.Work` for models whose loop takes jobs of the type J."""

    def __init__(
        self,
        *,
        host: Host,
        request: Request,
        emit: Emit,
        reader: Executor,
        make: Callable[[], J],
        queue: Callable[[J], None],
        cancel: Callable[[J], None],
    ) -> None:
        """make: reads the input to a job, on a thread of `reader`; raises why it is refused. queue,
        cancel: hand a job to the loop and end it there, from any thread; where `queue` raises, the
        loop does not have the job."""
        self._host = host
        self._request = request
        self._emit = emit
        self._reader = reader
        self._make = make
        self._queue = queue
        self._cancel = cancel
        self._cancelled = False
        self._job: J | None = None

    def begin(self) -> None:
        """Have the input read, and queue what comes of it."""
        self._reader.submit(self._read)

    def cancel(self) -> None:
        """End it before the loop has it, or there."""
        self._cancelled = True  # before the job is looked at: `_read` does so the other way round
        if self._job is not None:
            self._cancel(self._job)

    def _read(self) -> None:
        label = self._request.request_id
        if self._cancelled:
            self._host.tell(self._emit, Finished.cancelled(label))
            return
        try:
            job = self._job = self._make()
            self._queue(job)
        except NsedgeError as error:
            self._host.tell(self._emit, Failed.of(label, error))
        except Exception:
            log.exception("an input could not be read", extra={"request_id": label})
            unforeseen = NsedgeError("the input could not be read")
            self._host.tell(self._emit, Failed.of(label, unforeseen))
        else:
            if self._cancelled:
                self._cancel(job)
