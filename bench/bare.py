"""An engine with its own thread and nobody listening: what the doors are compared with."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from nsedge.api import Event, Finished, Request, Sampling, TextPrompt
from nsedge.runtime.admission import make_job
from nsedge.runtime.engine import Emit
from nsedge.runtime.residency import load
from nsedge.runtime.settings import EngineSettings


class BareEngine:
    """Generates for texts, and only counts."""

    def __init__(self, bundle: Path, *, slots: int, sampling: Sampling) -> None:
        self._sampling = sampling
        self._resident = load(
            bundle,
            settings=EngineSettings(slots=slots),
            deliver=self._deliver,
            clock=time.monotonic,
        )
        self._resident.engine.start()
        self._ended = threading.Semaphore(0)
        self._tokens = 0

    def tokens_per_s(self, texts: Sequence[str]) -> float:
        """All `texts` at once, from the first submission to the last token."""
        self._tokens = 0
        began = time.perf_counter()
        for text in texts:
            self._submit(text)
        for _ in texts:
            self._ended.acquire()
        return self._tokens / (time.perf_counter() - began)

    def close(self) -> None:
        """End its thread."""
        self._resident.engine.stop()

    def _submit(self, text: str) -> None:
        prompt = TextPrompt(text=text)
        request = Request(
            request_id="bare",
            model=self._resident.manifest.name,
            prompt=prompt,
            sampling=self._sampling,
        )
        job = make_job(
            request,
            self._resident,
            prompt_ids=self._resident.prompts.read(prompt),
            submitted_s=time.monotonic(),
            emit=self._see,
        )
        self._resident.engine.submit(job)

    def _deliver(self, batch: list[tuple[Emit, Event]]) -> None:
        for emit, event in batch:
            emit(event)

    def _see(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._tokens += event.usage.completion_tokens
            self._ended.release()
