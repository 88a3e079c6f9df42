"""llama.cpp's own benchmark of batched decoding."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from nsedge.runtime.machine.cores import usable_cores

PROGRAM = "llama-batched-bench"
ROOM = 64
"""Tokens of context that are not measured."""
TRIES = 5
"""Now and then it ends before what it has to tell is written."""


class Batched:
    """The program in `folder`, over a GGUF file: a prompt that all streams share, then tokens for
    all of them together."""

    def __init__(self, folder: Path, model: Path, *, context: int, tokens: int) -> None:
        self._command = [str(folder / PROGRAM), "-m", str(model), "-pps"]
        self._command += ["-t", str(usable_cores()), "--output-format", "jsonl"]
        self._context, self._tokens = context, tokens

    def decode(self, streams: int) -> float:
        """Tokens/s of all streams together."""
        return float(self._run(streams, self._context, self._tokens)["speed_tg"])

    def prefill(self, tokens: int) -> float:
        """Tokens/s of reading one prompt."""
        return float(self._run(1, tokens, 1)["speed_pp"])

    def _run(self, streams: int, context: int, tokens: int) -> dict[str, Any]:
        room = str(context + streams * tokens + ROOM)
        sizes = ["-npp", str(context), "-ntg", str(tokens), "-npl", str(streams), "-c", room]
        command = [*self._command, *sizes]
        for _ in range(TRIES):
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
            if lines:
                figures: dict[str, Any] = lines[-1]
                return figures
        raise SystemExit(f"{PROGRAM} ended well and told nothing, {TRIES} times")
