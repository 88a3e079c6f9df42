"""A request for text: its prompt is read on the reader's thread, then it is a job of the engine."""

from __future__ import annotations

import logging

from nsedge.api import Failed, Finished, Request
from nsedge.errors import NsedgeError
from nsedge.runtime.decode.engine import Emit, Job
from nsedge.runtime.hosting.admission import Writer, make_job, text_task
from nsedge.runtime.hosting.hosted import Host

log = logging.getLogger(__name__)


class TextWork:
    """A request from its acceptance until its engine has it."""

    def __init__(
        self,
        *,
        request: Request,
        model: Writer,
        adapter: str | None,
        emit: Emit,
        submitted_s: float,
    ) -> None:
        self._request = request
        self._model = model
        self._adapter = adapter
        self._emit = emit
        self._submitted_s = submitted_s
        self._cancelled = False
        self._job: Job | None = None

    def begin(self, host: Host) -> None:
        """Have the prompt read, and queue what comes of it."""
        host.reader.submit(self._read, host)

    def cancel(self) -> None:
        """End it before the engine has it, or there."""
        self._cancelled = True  # before the job is looked at: `_queue` does so the other way round
        if self._job is not None:
            self._model.engine.cancel(self._job)

    def _read(self, host: Host) -> None:
        if self._cancelled:
            host.tell(self._emit, Finished.cancelled(self._request.request_id))
            return
        try:
            self._queue(self._make())
        except NsedgeError as error:
            host.tell(self._emit, Failed.of(self._request.request_id, error))
        except Exception:
            label = {"request_id": self._request.request_id}
            log.exception("a prompt could not be read", extra=label)
            unforeseen = NsedgeError("the prompt could not be read")
            host.tell(self._emit, Failed.of(self._request.request_id, unforeseen))

    def _make(self) -> Job:
        return make_job(
            self._request,
            self._model,
            prompt_ids=self._model.prompts.read(text_task(self._request)),
            adapter=self._adapter,
            submitted_s=self._submitted_s,
            emit=self._emit,
        )

    def _queue(self, job: Job) -> None:
        self._job = job
        self._model.engine.submit(job)
        if self._cancelled:
            self._model.engine.cancel(job)
