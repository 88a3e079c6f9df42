"""sentence-transformers on one model folder: FOLDER THREADS."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from bench.peers.programs.answering import answer


class Encoding:
    """Makes vectors of texts, and throws them away."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = SentenceTransformer(folder, device="cpu")

    def embed(self, texts: list[str], batch: int, at_once: int) -> dict[str, Any]:
        """Texts/s: calls of `at_once` texts each, which it sorts by length and runs in batches."""
        began = time.perf_counter()
        for begin in range(0, len(texts), at_once):
            self._model.encode(texts[begin : begin + at_once], batch_size=batch)
        return {"texts_per_s": len(texts) / (time.perf_counter() - began)}


def main() -> None:
    """Load, and answer."""
    encoding = Encoding(sys.argv[1], int(sys.argv[2]))
    answer({"embed": encoding.embed})


if __name__ == "__main__":
    main()
