"""OpenVINO GenAI's ContinuousBatchingPipeline in process: MODEL ROWS CAPACITY THREADS."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

from bench.peers.programs.answering import answer

BLOCK = 32
"""Tokens of a KV block on a CPU."""
BATCHED_TOKENS = 512
CHUNK = 128


class Engine:
    """A pipeline with room for `rows` requests of `capacity` tokens, stepped from here."""

    def __init__(self, model: str, *, rows: int, capacity: int, threads: int) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs = rows
        scheduler.max_num_batched_tokens = BATCHED_TOKENS
        scheduler.num_kv_blocks = rows * (capacity // BLOCK + 1)
        scheduler.enable_prefix_caching = False
        self._model = model
        self._threads = {"INFERENCE_NUM_THREADS": threads}
        self._pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", self._threads)
        self._random = np.random.default_rng(1)
        self._number = 0

    def decode(self, rows: int, context: int, tokens: int) -> dict[str, Any]:
        """Tokens/s of `tokens` steps of `rows` rows, all prompts of `context` tokens read."""
        handles = [self._add(context, tokens + 2 * rows) for _ in range(rows)]
        waiting = set(range(rows))
        while waiting:
            self._pipeline.step()
            waiting -= {i for i in waiting if _read(handles[i])}
        self._pipeline.step()
        for handle in handles:
            _read(handle)
        began = time.perf_counter()
        for _ in range(tokens):
            self._pipeline.step()
        elapsed_s = time.perf_counter() - began
        written = sum(_read(handle) for handle in handles)
        self._finish()
        return {"tokens_per_s": written / elapsed_s}

    def prefill(self, tokens: int) -> dict[str, Any]:
        """Tokens/s of reading one prompt to its first token."""
        began = time.perf_counter()
        handle = self._add(tokens, 1)
        while not handle.can_read():
            self._pipeline.step()
        elapsed_s = time.perf_counter() - began
        _read(handle)
        self._finish()
        return {"tokens_per_s": tokens / elapsed_s}

    def search(self, ids: list[int], beams: int, tokens: int) -> dict[str, Any]:
        """Seconds, of the clock and of processors, of a beam search of `tokens` tokens."""
        config = genai.GenerationConfig()
        config.max_new_tokens = tokens
        config.ignore_eos = True
        config.num_beams = beams
        config.num_return_sequences = 1
        began_s, cpu_s = time.perf_counter(), time.process_time()
        self._number += 1
        handle = self._pipeline.add_request(self._number, ov.Tensor(np.array([ids])), config)
        self._finish()
        _read(handle)  # a request without one is given up
        return {"wall": time.perf_counter() - began_s, "cpu": time.process_time() - cpu_s}

    def logits(self, ids: list[int], file: str) -> dict[str, Any]:
        """Write logits float32 [len(ids), V] to `file`: the same plug-in and weights, in chunks."""
        request = (
            ov.Core()
            .compile_model(f"{self._model}/openvino_model.xml", "CPU", self._threads)
            .create_infer_request()
        )
        parts = []
        for begin in range(0, len(ids), CHUNK):
            chunk = np.array([ids[begin : begin + CHUNK]], np.int64)
            end = begin + chunk.shape[1]
            request.infer(
                {
                    "input_ids": chunk,
                    "attention_mask": np.ones((1, end), np.int64),
                    "position_ids": np.arange(begin, end)[None],
                    "beam_idx": np.zeros(1, np.int32),
                }
            )
            parts.append(request.get_tensor("logits").data[0].astype(np.float32))
        np.save(file, np.concatenate(parts))
        return {}

    def _add(self, tokens: int, new_tokens: int) -> Any:
        config = genai.GenerationConfig()
        config.max_new_tokens = new_tokens
        config.ignore_eos = True
        config.do_sample = False
        ids = self._random.integers(500, 49_000, (1, tokens))
        self._number += 1
        return self._pipeline.add_request(self._number, ov.Tensor(ids), config)

    def _finish(self) -> None:
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()


def _read(handle: Any) -> int:
    """Tokens that have come since the last reading."""
    tokens = 0
    while handle.can_read():
        tokens += sum(len(output.generated_ids) for output in handle.read().values())
    return tokens


def main() -> None:
    """Load, and answer."""
    model, rows, capacity, threads = sys.argv[1], *map(int, sys.argv[2:5])
    engine = Engine(model, rows=rows, capacity=capacity, threads=threads)
    answer(
        {
            "decode": engine.decode,
            "prefill": engine.prefill,
            "logits": engine.logits,
            "search": engine.search,
        }
    )


if __name__ == "__main__":
    main()
