"""Whether a cross-encoder, trained on pairs of texts, exported and served, finds what belongs to a
sentence that it has not seen: python -m exporters.meaning.ranking.

The texts are docstrings; the encoder is all-MiniLM-L6-v2, with a head of one label.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from exporters.cache import Cache, cache_root
from exporters.code import code_digest
from exporters.encoder.build import EncoderOrder, export_encoder
from exporters.encoder.schemes import default_variants
from exporters.encoder.starter_folder import VECTORS
from exporters.meaning.docstrings import Pair, read_pairs
from exporters.meaning.fitting import Course, fit
from exporters.meaning.serving import client_of
from exporters.model.source import Source
from exporters.progress import Progress
from nsedge.ipc.client import Client
from nsedge.process import console

NAME = "small-reranker"
ORIGIN = "all-MiniLM-L6-v2, trained on docstrings to score pairs"
ASKED, AMONG = 100, 8
"""Sentences that were not trained on, and the documents of which one belongs to each."""
SEED = 7
LEARNING_RATE = 2e-4
TOKENS = 80
AT_ONCE = 6
"""Sentences of a step, each scored with the documents of all."""
SHORT = Course(steps=100, batch=AT_ONCE, demanded=0.6)
WHOLE_COURSE = Course(steps=400, batch=AT_ONCE, demanded=0.8)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """How often a variant had the document that belongs to a sentence first, of so many; and how
    often one drawn by lot would be."""

    variant: str
    asked: int
    first: float
    by_chance: float


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found. train_s: seconds of training; None where it was kept from before."""

    pairs: int
    steps: int
    train_s: float | None
    demanded: float
    found: tuple[Found, ...]

    @property
    def passed(self) -> bool:
        """Every variant ranks as demanded."""
        return min(one.first for one in self.found) >= self.demanded


def train(
    base: Path, pairs: Sequence[Pair], course: Course, out: Path, *, tell: Callable[[str], None]
) -> float:
    """Write the folder of a model with a head that scores pairs; the seconds it took.

    Of each sentence, the document that belongs to it is to have the highest score among those of
    the step.
    """
    import torch  # with transformers: only where there is something to train
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(SEED)
    model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(base)

    def loss_of(chosen: Any) -> torch.Tensor:
        some = [pairs[at] for at in chosen]
        questions = [one.question for one in some for _ in some]
        documents = [one.document for _ in some for one in some]
        read = tokenizer(
            questions,
            documents,
            padding=True,
            truncation=True,
            max_length=TOKENS,
            return_tensors="pt",
        )
        scores = model(**read).logits.reshape(len(some), len(some))
        return torch.nn.functional.cross_entropy(scores, torch.arange(len(some)))

    took_s = fit(
        model,
        course,
        loss_of,
        pictures=len(pairs),
        rate=LEARNING_RATE,
        random=np.random.default_rng(SEED),
        tell=tell,
    )
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, out / name)
    return took_s


def trained(cache: Cache, pairs: Sequence[Pair], course: Course) -> tuple[Path, float | None]:
    """The folder of the model, and the seconds of training; None where it was in the cache.

    Raises:
        ExportError: the base cannot be had.
    """
    base, took = VECTORS.source(cache), list[float]()
    inputs = {
        "pairs": hashlib.sha256(msgspec.json.encode(pairs)).hexdigest(),
        "steps": course.steps,
        "base": base.revision,
        "code": code_digest("exporters.meaning.ranking"),
    }

    def make(folder: Path) -> None:
        took.append(train(base.folder, pairs, course, folder, tell=cache.progress.note))

    title = f"Training a reranker on {len(pairs)} pairs of texts in {course.steps} steps"
    folder = cache.get("meaning", inputs, title=title, make=make)
    return folder, round(took[0], 1) if took else None


def measure(cache: Cache, course: Course) -> Ranked:
    """Train, export, serve, and have documents ranked for sentences that were not trained on.

    Raises:
        ExportError: the base cannot be had, or the model cannot be exported.
    """
    pairs = read_pairs()
    asked, rest = pairs[:ASKED], pairs[ASKED:]
    folder, took_s = trained(cache, rest, course)
    source = Source(folder=folder, origin=ORIGIN)
    order = EncoderOrder(source=source, variants=default_variants())
    out = cache.root / "meaning-bundles" / f"{NAME}-{course.steps}"
    report = export_encoder(order, out, name=out.name, cache=cache, replace=True)
    return Ranked(
        pairs=len(rest),
        steps=course.steps,
        train_s=took_s,
        demanded=course.demanded,
        found=tuple(_ask(report.bundle, made.name, asked) for made in report.exported.variants),
    )


def questions(pairs: Sequence[Pair]) -> Iterator[tuple[str, list[str], int]]:
    """Each sentence, AMONG documents, and the place of the one that belongs to it."""
    for number, pair in enumerate(pairs):
        others = [pairs[(number + step) % len(pairs)].document for step in range(1, AMONG)]
        place = number % AMONG
        yield pair.question, [*others[:place], pair.document, *others[place:]], place


def _ask(bundle: Path, variant: str, pairs: Sequence[Pair]) -> Found:
    with client_of(bundle, variant=variant) as client:
        right = [
            _first(client, bundle.name, question, documents) == place
            for question, documents, place in questions(pairs)
        ]
    return Found(
        variant=variant,
        asked=len(right),
        first=round(sum(right) / len(right), 4),
        by_chance=1 / AMONG,
    )


def _first(client: Client, model: str, question: str, documents: Sequence[str]) -> int:
    """The place of the document with the highest score."""
    scores = client.score(model, question, documents, truncate=True).collected().scores
    return int(np.argmax(scores))


def main() -> int:
    """Measure; 1 where too little is ranked right."""
    parser = argparse.ArgumentParser(prog="python -m exporters.meaning.ranking")
    parser.add_argument("--short", action="store_true", help="fewer steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    arguments = parser.parse_args()
    cache = Cache(cache_root(), Progress(sys.stderr))
    result = measure(cache, SHORT if arguments.short else WHOLE_COURSE)
    text = msgspec.json.format(msgspec.json.encode(result), indent=1).decode()
    if arguments.json is not None:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")
    console.say(*text.splitlines())
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
