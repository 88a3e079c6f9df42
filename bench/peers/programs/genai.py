"""onnxruntime-genai in process: MODEL ROWS CAPACITY THREADS. A batch starts and ends as one."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import onnxruntime_genai as genai

from bench.peers.programs.answering import answer


class Engine:
    """A model whose generators have buffers of `capacity` tokens a row."""

    def __init__(self, model: str, *, capacity: int, threads: int) -> None:
        config = genai.Config(model)
        session = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self._folder = Path(model)
        self._model = genai.Model(config)
        self._capacity = capacity
        self._random = np.random.default_rng(1)

    def decode(self, rows: int, context: int, tokens: int) -> dict[str, Any]:
        """Tokens/s of `tokens` steps of `rows` rows after a prompt of `context` tokens."""
        generator = self._read(rows, context)
        generator.generate_next_token()
        began = time.perf_counter()
        for _ in range(tokens):
            generator.generate_next_token()
        return {"tokens_per_s": rows * tokens / (time.perf_counter() - began)}

    def prefill(self, tokens: int) -> dict[str, Any]:
        """Tokens/s of reading one prompt to its first token."""
        began = time.perf_counter()
        self._read(1, tokens).generate_next_token()
        return {"tokens_per_s": tokens / (time.perf_counter() - began)}

    def logits(self, ids: list[int], file: str) -> dict[str, Any]:
        """Write logits float32 [len(ids), V] to `file`: the graph alone, in one piece."""
        description = json.loads((self._folder / "genai_config.json").read_text())["model"]
        decoder = description["decoder"]
        session = ort.InferenceSession(
            str(self._folder / decoder["filename"]), providers=["CPUExecutionProvider"]
        )
        empty = (1, decoder["num_key_value_heads"], 0, decoder["head_size"])
        feeds = {
            name: np.zeros(empty, np.float32)
            for layer in range(decoder["num_hidden_layers"])
            for name in (
                decoder["inputs"]["past_key_names"] % layer,
                decoder["inputs"]["past_value_names"] % layer,
            )
        }
        feeds["input_ids"] = np.array([ids], np.int64)
        feeds["attention_mask"] = np.ones((1, len(ids)), np.int64)
        np.save(file, session.run(["logits"], feeds)[0][0].astype(np.float32))
        return {}

    def _read(self, rows: int, tokens: int) -> Any:
        parameters = genai.GeneratorParams(self._model)
        parameters.set_search_options(
            batch_size=rows,
            max_length=self._capacity,
            min_length=self._capacity,
            do_sample=False,
            past_present_share_buffer=True,
        )
        generator = genai.Generator(self._model, parameters)
        generator.append_tokens(self._random.integers(500, 49_000, (rows, tokens)).astype(np.int32))
        return generator


def main() -> None:
    """Load, and answer."""
    model, _, capacity, threads = sys.argv[1], *map(int, sys.argv[2:5])
    engine = Engine(model, capacity=capacity, threads=threads)
    answer({"decode": engine.decode, "prefill": engine.prefill, "logits": engine.logits})


if __name__ == "__main__":
    main()
