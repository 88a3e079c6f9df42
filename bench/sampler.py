"""The sampler alone: processor time to choose a token for every row, with each step and with the
usual ones together. `bench.step` prints the same for its model's vocabulary.

    python -m bench.sampler [--rows 16] [--vocabulary 49152] [--rounds 20]
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report import emit, parser, say
from nsedge.api import AdaptiveP, Dry, DynamicTemperature, Mirostat, Xtc
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules
from nsedge.runtime.decode.sampling.sampler import Sampler

HISTORY = 600
"""Tokens of each row's prompt."""
LIKELY = 20
"""Tokens of each row that are far above the others, as those of a model are."""
USUAL = SamplingParams(
    temperature=0.8,
    top_k=40,
    top_p=0.95,
    min_p=0.05,
    repetition_penalty=1.1,
    presence_penalty=0.2,
    frequency_penalty=0.1,
)
CASES: dict[str, tuple[SamplingParams, TokenRules]] = {
    "greedy": (SamplingParams(temperature=0.0), TokenRules()),
    "temperature": (SamplingParams(temperature=0.8), TokenRules()),
    "top-k 40": (SamplingParams(top_k=40), TokenRules()),
    "top-p 0.9 at 0.2": (SamplingParams(temperature=0.2, top_p=0.9), TokenRules()),
    "min-p 0.05": (SamplingParams(min_p=0.05), TokenRules()),
    "top-k, top-p, min-p, penalties": (USUAL, TokenRules()),
    "dynamic temperature": (
        SamplingParams(top_k=40, dynamic_temperature=DynamicTemperature(range=0.5)),
        TokenRules(),
    ),
    "typical-p 0.5": (SamplingParams(typical_p=0.5), TokenRules()),
    "top-n-sigma 1": (SamplingParams(top_n_sigma=1.0), TokenRules()),
    "XTC behind min-p": (SamplingParams(min_p=0.05, xtc=Xtc(probability=0.5)), TokenRules()),
    "XTC alone": (SamplingParams(xtc=Xtc(probability=0.5)), TokenRules()),
    "mirostat": (SamplingParams(mirostat=Mirostat()), TokenRules()),
    "adaptive-p behind min-p": (
        SamplingParams(min_p=0.05, adaptive_p=AdaptiveP(target=0.5)),
        TokenRules(),
    ),
    "DRY": (SamplingParams(top_k=40, dry=Dry(multiplier=0.8)), TokenRules()),
    "penalties over 64 tokens": (
        SamplingParams(top_k=40, repetition_penalty=1.1, penalty_last_n=64),
        TokenRules(),
    ),
    "no 3-gram twice, bad words": (
        SamplingParams(top_k=40, no_repeat_ngram_size=3),
        TokenRules(bad_words=((5,), (6, 7))),
    ),
    "1,000 allowed tokens": (
        SamplingParams(top_k=40),
        TokenRules(allowed=tuple(range(1000))),
    ),
}


def made_logits(rows: int, vocabulary: int) -> NDArray[np.float32]:
    """Logits of about the spread that a model's have [rows, vocabulary]."""
    rng = np.random.default_rng(1)
    logits = (rng.standard_normal((rows, vocabulary)) * 2.5).astype(np.float32)
    logits[np.arange(rows)[:, None], rng.integers(0, vocabulary, (rows, LIKELY))] += 12.0
    return logits


def measure(*, rows: int, vocabulary: int, rounds: int) -> dict[str, float]:
    """The least milliseconds of processor time of each case; all cases take turns."""
    logits, sampler = made_logits(rows, vocabulary), Sampler(end_ids=[0])
    prompt = np.random.default_rng(2).integers(0, vocabulary, HISTORY).tolist()
    batches = {
        name: [
            SamplerRow(params, seed=i, prompt_ids=prompt, rules=rules, vocabulary=vocabulary)
            for i in range(rows)
        ]
        for name, (params, rules) in CASES.items()
    }
    taken_s: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, batch in batches.items():
            fresh = HostLogits(logits.copy())
            began_s = time.thread_time()
            draws = sampler.sample(fresh, batch)
            for row, draw in zip(batch, draws, strict=True):
                row.accept(0 if draw is None else draw.id)
            taken_s[name].append(time.thread_time() - began_s)
    return {name: min(times) * 1e3 for name, times in taken_s.items()}


def told(figures: dict[str, float], *, rows: int, vocabulary: int) -> None:
    """Print the figures."""
    say(f"the sampler, {rows} rows of {vocabulary} logits, processor time a step")
    for name, milliseconds in figures.items():
        say(f"  {name:32} {milliseconds:7.3f} ms")


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, bundle=False)
    arguments.add_argument("--rows", type=int, default=16)
    arguments.add_argument("--vocabulary", type=int, default=49_152)
    arguments.set_defaults(rounds=20)
    options = arguments.parse_args()
    shape: dict[str, Any] = {"rows": options.rows, "vocabulary": options.vocabulary}
    figures = measure(**shape, rounds=options.rounds)
    told(figures, **shape)
    emit({"bench": "sampler", **shape, "milliseconds": figures}, options.json)


if __name__ == "__main__":
    main()
