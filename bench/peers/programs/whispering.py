"""faster-whisper on one CTranslate2 folder, in int8: FOLDER THREADS WORKERS.

Nothing but its own package; files are decoded by its own decoder, as its users have it.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from faster_whisper import WhisperModel

from bench.peers.programs.answering import answer


class Whispering:
    """Writes what is said in files."""

    def __init__(self, folder: str, threads: int, workers: int) -> None:
        self._model = WhisperModel(
            folder, device="cpu", compute_type="int8", cpu_threads=threads, num_workers=workers
        )
        self._workers = workers

    def transcribe(
        self,
        files: list[str],
        beam: int,
        at_once: bool,
        language: str | None = "en",
        task: str = "transcribe",
    ) -> dict[str, Any]:
        """Seconds for all files, one after the other or as many at once as there are workers; their
        texts, and the languages that were told where `language` is None."""

        def one(file: str) -> tuple[str, str]:
            segments, info = self._model.transcribe(
                file,
                language=language,
                task=task,
                beam_size=beam,
                vad_filter=False,
                condition_on_previous_text=True,
            )
            return "".join(segment.text for segment in segments), info.language

        began = time.perf_counter()
        with ThreadPoolExecutor(self._workers if at_once else 1) as pool:
            found = list(pool.map(one, files))
        return {
            "seconds": time.perf_counter() - began,
            "texts": [text for text, _ in found],
            "languages": [language for _, language in found],
        }


def main() -> None:
    """Load, and answer."""
    folder, threads, workers = sys.argv[1:4]
    answer({"transcribe": Whispering(folder, int(threads), int(workers)).transcribe})


if __name__ == "__main__":
    main()
