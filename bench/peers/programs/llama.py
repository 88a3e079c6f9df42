"""llama.cpp's own logits, through its Python bindings: MODEL ROWS CAPACITY THREADS."""

from __future__ import annotations

import sys
from typing import Any

import llama_cpp
import numpy as np

from bench.peers.programs.answering import answer


class Engine:
    """A model with the options that the server chooses by itself."""

    def __init__(self, model: str, *, capacity: int, threads: int) -> None:
        self._llama = llama_cpp.Llama(
            model,
            n_ctx=capacity,
            n_threads=threads,
            n_threads_batch=threads,
            logits_all=True,
            flash_attn=True,
            verbose=False,
        )

    def logits(self, ids: list[int], file: str) -> dict[str, Any]:
        """Write logits float32 [len(ids), V] to `file`."""
        self._llama.reset()
        self._llama.eval(ids)
        np.save(file, np.asarray(self._llama.scores[: len(ids)], np.float32))
        return {}


def main() -> None:
    """Load, and answer."""
    model, _, capacity, threads = sys.argv[1], *map(int, sys.argv[2:5])
    engine = Engine(model, capacity=capacity, threads=threads)
    answer({"logits": engine.logits})


if __name__ == "__main__":
    main()
