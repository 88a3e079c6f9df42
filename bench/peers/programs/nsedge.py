"""Our own engine in process, with nobody listening: BUNDLE ROWS CAPACITY THREADS."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bench.bare import BareEngine
from bench.peers.programs.answering import answer
from nsedge.api import Sampling
from nsedge.runtime.settings import EngineSettings


class Engine:
    """The same operations as the peers', and texts."""

    def __init__(self, bundle: Path, settings: EngineSettings) -> None:
        sampling = Sampling(temperature=0.0, ignore_eos=True)
        self._bare = BareEngine(bundle, settings=settings, sampling=sampling)

    def decode(self, rows: int, context: int, tokens: int) -> dict[str, Any]:
        """Tokens/s of `tokens` steps of `rows` rows, all prompts of `context` tokens read."""
        return {"tokens_per_s": self._bare.decode_rate(rows=rows, context=context, tokens=tokens)}

    def prefill(self, tokens: int) -> dict[str, Any]:
        """Tokens/s of reading one prompt to its first token."""
        return {"tokens_per_s": self._bare.prefill_rate(tokens)}

    def generate(self, texts: list[str], tokens: int) -> dict[str, Any]:
        """Tokens/s of all texts at once, prefill included."""
        return {"tokens_per_s": self._bare.tokens_per_s(texts, max_tokens=tokens)}


def main() -> None:
    """Load, and answer."""
    rows, capacity, threads = map(int, sys.argv[2:5])
    settings = EngineSettings(slots=rows, context_tokens=capacity, threads=threads)
    engine = Engine(Path(sys.argv[1]), settings)
    answer({"decode": engine.decode, "prefill": engine.prefill, "generate": engine.generate})


if __name__ == "__main__":
    main()
