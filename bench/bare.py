"""An engine with its own thread and nobody listening: what the doors are compared with."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nsedge.api import Event, Finished, Generate, Request, Sampling
from nsedge.runtime.decode.job import Job
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.admission import make_job
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import load
from nsedge.runtime.settings import EngineSettings


class BareEngine:
    """Generates, and only counts."""

    def __init__(self, bundle: Path, *, settings: EngineSettings, sampling: Sampling) -> None:
        self._sampling = sampling
        self._resident = load(
            bundle, Host(settings=settings, deliver=self._deliver, clock=time.monotonic)
        )
        self._resident.engine.start()
        self._random = np.random.default_rng(1)
        self._ended = threading.Semaphore(0)
        self._tokens = self._ends = 0
        self._watched: list[Job] = []
        self._steps: list[tuple[float, int]] = []
        self._stepped = threading.Condition()

    def tokens_per_s(self, texts: Sequence[str], *, max_tokens: int) -> float:
        """All `texts` at once, from the first submission to the last token."""
        self._tokens = 0
        began = time.perf_counter()
        for text in texts:
            ids = self._resident.prompts.read(Generate(text=text))
            self._submit(self._job(ids, max_tokens))
        self._wait_for(len(texts))
        return self._tokens / (time.perf_counter() - began)

    def decode_rate(self, *, rows: int, context: int, tokens: int) -> float:
        """Tokens/s of `rows` rows over at least `tokens` steps, all prompts of `context` read; over
        fewer where the rows are full before. 0 where they are before all prompts are read."""
        room = self._resident.capacity - context
        jobs = [self._job(self._random_ids(context), room) for _ in range(rows)]
        self._watched, self._steps, self._ends = jobs, [], 0
        for job in jobs:
            self._submit(job)
        with self._stepped:
            self._stepped.wait_for(lambda: all(job.sequence.output_ids for job in jobs))
            first = len(self._steps)
            self._stepped.wait_for(
                lambda: self._written(first) >= rows * tokens or self._ends == rows
            )
        written = self._written(first)
        elapsed_s = self._steps[-1][0] - self._steps[first][0] if written else 1.0
        self._watched = []
        for job in jobs:
            self._resident.engine.cancel(job)
        self._wait_for(rows)
        return written / elapsed_s

    def prefill_rate(self, tokens: int) -> float:
        """Tokens/s of reading one prompt to its first token."""
        job = self._job(self._random_ids(tokens), 1)
        began = time.perf_counter()
        self._submit(job)
        self._wait_for(1)
        return tokens / (time.perf_counter() - began)

    def close(self) -> None:
        """End its thread."""
        self._resident.engine.stop()

    def _written(self, first: int) -> int:
        """Tokens written since the step `first`, that one left out."""
        return self._steps[-1][1] - self._steps[first][1] if len(self._steps) > first else 0

    def _random_ids(self, count: int) -> tuple[int, ...]:
        size = self._resident.manifest.vocab_size
        return tuple(int(i) for i in self._random.integers(size // 100, size, count))

    def _job(self, prompt_ids: tuple[int, ...], max_tokens: int) -> Job:
        request = Request(
            request_id="bare",
            model=self._resident.manifest.name,
            task=Generate(
                text="", sampling=dataclasses.replace(self._sampling, max_tokens=max_tokens)
            ),
        )
        return make_job(
            request,
            self._resident,
            prompt_ids=prompt_ids,
            submitted_s=time.monotonic(),
            emit=self._see,
        )

    def _submit(self, job: Job) -> None:
        self._resident.engine.submit(job)

    def _wait_for(self, ends: int) -> None:
        for _ in range(ends):
            self._ended.acquire()

    def _deliver(self, batch: list[tuple[Emit, Event]]) -> None:
        for emit, event in batch:
            emit(event)
        if self._watched:
            written = sum(len(job.sequence.output_ids) for job in self._watched)
            with self._stepped:
                self._steps.append((time.perf_counter(), written))
                self._stepped.notify()

    def _see(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._tokens += event.usage.completion_tokens
            self._ends += 1
            self._ended.release()
