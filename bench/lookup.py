"""Speculation by prompt lookup: the same answers with and without it, one stream, interleaved.

Two kinds of request: texts to be given back whole, or nearly so, where it should win, and ordinary
questions, where it should not lose.

    python -m bench.lookup --bundle DIR [--tokens 96] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

from bench.report import Noise, chosen_of, emit, parser, say
from bench.step import DEFAULT, GREEDY, Bench
from nsedge.api import Chat, Generate, Message, Role
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import load
from nsedge.runtime.settings import EngineSettings

LOG = (
    "Third of May. The lamp was lit before dusk and three boats came in with nets full of silver"
    " fish. Anna Petersen wrote down wind and weather: south-west, force four, rain after midnight."
    " A crate of forty oranges, addressed to the school at Norby, was left on the pier. The mail"
    " boat Sigrid came late, at ten past nine, and brought two passengers and a goat."
)
CODE = (
    "def area(width, height):\n    if width < 0 or height < 0:\n"
    "        raise ValueError('a side is negative')\n    return width * height\n\n\n"
    "def perimeter(width, height):\n    if width < 0 or height < 0:\n"
    "        raise ValueError('a side is negative')\n    return 2 * (width + height)\n"
)
REQUESTS = {
    "copy": [
        f"{LOG}\n\nThe same entry, copied word for word:\n\nThird of May. The lamp was",
        f"# Before:\n{CODE}\n\n# After, with one function renamed:\ndef area(width, height):\n",
    ],
    "chat": [
        "Explain in a few sentences why the sea is salty.",
        "Write a short story about a lighthouse keeper and a lost dog.",
        "What should I think of before I adopt a cat?",
    ],
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The tokens that came, in how many steps, and how fast the first was followed."""

    ids: tuple[int, ...]
    steps: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Of decoding alone."""
        return (len(self.ids) - 1) / self.seconds


def answer(bench: Bench, ids: tuple[int, ...], tokens: int, *, lookup: bool) -> Answer:
    """Ask, read the prompt, and time what follows."""
    job = bench.submit(ids, tokens, lookup=lookup)
    while not job.sequence.output_ids:
        bench.step()
    taken = []
    while len(job.sequence.output_ids) < tokens:
        taken.append(bench.step())
    return Answer(ids=tuple(job.sequence.output_ids), steps=len(taken), seconds=sum(taken))


def measure(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Every request with and without, in every round."""
    found: dict[str, dict[str, Any]] = {}
    asked = {kind: [_ids(bench, kind, text) for text in texts] for kind, texts in REQUESTS.items()}
    noise = Noise()
    for kind, prompts in asked.items():
        ratios, per_step, rates = [], [], []
        same = True
        for _ in range(options.rounds):
            for ids in prompts:
                plain = answer(bench, ids, options.tokens, lookup=False)
                guessed = answer(bench, ids, options.tokens, lookup=True)
                ratios.append(guessed.tokens_per_s / plain.tokens_per_s)
                rates.append(plain.tokens_per_s)
                per_step.append((len(guessed.ids) - 1) / guessed.steps)
                same = same and plain.ids == guessed.ids
        found[kind] = {
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "plain_tokens_per_s": statistics.median(rates),
            "tokens_per_step": statistics.mean(per_step),
            "same_tokens": same,
        }
    return {"kinds": found, "others_cores": noise.others()}


def _ids(bench: Bench, kind: str, text: str) -> tuple[int, ...]:
    task: Generate | Chat = Generate(text=text)
    if kind == "chat":
        task = Chat(messages=(Message(role=Role.USER, content=text),))
    return bench.resident.prompts.read(task)


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--tokens", type=int, default=96)
    arguments.add_argument("--sampled", action="store_true", help="the bundle's own sampling")
    options = arguments.parse_args()
    settings = EngineSettings(slots=1, context_tokens=2048)
    resident = load(
        options.bundle, Host(settings=settings, deliver=_ignore, clock=time.perf_counter)
    )
    sampling = DEFAULT if options.sampled else GREEDY
    bench = Bench(resident, rows=1, chunk=128, sampling=sampling)
    result = measure(bench, options)
    for kind, figures in result["kinds"].items():
        say(
            f"{kind:5} {figures['plain_tokens_per_s']:7.1f} tokens/s plain, with lookup"
            f" {figures['ratio']:.2f} x, {figures['tokens_per_step']:.2f} tokens a step,"
            f" the same tokens: {figures['same_tokens']}"
        )
    described = chosen_of(options)
    emit({"bench": "lookup", "options": described, **result}, options.json)


def _ignore(_: object) -> None:
    """Where the engine's events go."""


if __name__ == "__main__":
    main()
