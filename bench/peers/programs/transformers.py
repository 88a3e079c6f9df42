"""transformers' beam search in process, in fp32: FOLDER THREADS."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from bench.peers.programs.answering import answer


def main() -> None:
    """Load, and answer."""
    folder, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def search(ids: list[int], beams: int, tokens: int) -> dict[str, Any]:
        """Seconds, of the clock and of processors, of a beam search of `tokens` tokens."""
        prompt = torch.tensor([ids])
        began_s, cpu_s = time.perf_counter(), time.process_time()
        with torch.no_grad():
            model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                num_beams=beams,
                do_sample=False,
                temperature=None,
                top_p=None,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                pad_token_id=0,
            )
        return {"wall": time.perf_counter() - began_s, "cpu": time.process_time() - cpu_s}

    answer({"search": search})


if __name__ == "__main__":
    main()
