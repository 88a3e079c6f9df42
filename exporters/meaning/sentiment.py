"""Whether a sentiment head, trained on texts that people rated, exported and served, tells good
from bad in texts that it has not seen: python -m exporters.meaning.sentiment --texts FILE.

The texts are those of VADER (Hutto and Gilbert, 2014; MIT), in the source archive of the package
vaderSentiment 3.3.2. The head goes on all-MiniLM-L6-v2, whose layers stay as they are.
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from exporters.cache import Cache, cache_root
from exporters.code import code_digest
from exporters.encoder.build import EncoderOrder, export_encoder
from exporters.encoder.schemes import default_variants
from exporters.encoder.starter_folder import VECTORS
from exporters.errors import ExportError
from exporters.meaning.serving import client_of
from exporters.model.source import Source
from exporters.progress import Progress
from nsedge.bundle.files import sha256_of
from nsedge.process import console

ARCHIVE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = ("amazonReviewSnippets", "tweets")
LABELS = ("negative", "positive")
NAME = "vader-sentiment"
CLEAR = 0.5
"""From so far from 0 on, of 4, a mean rating is good or bad."""
SEED = 7
TOKENS = 64
AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class Course:
    """How many texts are trained on and asked, and steps; the share that must be right."""

    trained: int
    asked: int
    steps: int
    demanded: float


WHOLE = Course(trained=2000, asked=500, steps=400, demanded=0.75)
SHORT = Course(trained=600, asked=300, steps=150, demanded=0.7)


class Rated(msgspec.Struct, frozen=True):
    """A text, and whether people found it good."""

    text: str
    positive: bool


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant told of texts that were not trained on; `usual`: the share of the commoner
    label."""

    variant: str
    texts: int
    right: float
    usual: float


class Sentiment(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found."""

    trained: int
    steps: int
    demanded: float
    found: tuple[Found, ...]

    @property
    def passed(self) -> bool:
        """Every variant tells as demanded."""
        return min(one.right for one in self.found) >= self.demanded


def read_texts(archive: Path) -> list[Rated]:
    """The texts in the package's source archive that are clearly good or bad, in a fixed order
    without one.

    Raises:
        ExportError: it is another file.
    """
    if sha256_of(archive) != ARCHIVE_SHA256:
        raise ExportError(f"{archive} is not the source archive of vaderSentiment 3.3.2")
    rated = []
    with tarfile.open(archive) as outer:
        inner = outer.extractfile(INNER)
        content = b"" if inner is None else inner.read()
    with tarfile.open(fileobj=io.BytesIO(content)) as texts:
        for name in FILES:
            member = texts.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            lines = b"" if member is None else member.read()
            for line in lines.decode("utf-8", "replace").splitlines():
                _, rating, text = line.split("\t", 2)
                if abs(float(rating)) >= CLEAR:
                    rated.append(Rated(text.strip(), float(rating) > 0))
    random.Random(SEED).shuffle(rated)
    return rated


def train(base: Path, texts: Sequence[Rated], course: Course, out: Path) -> None:
    """Write the folder of a model with a head trained on `texts`."""
    import torch  # with transformers: only where there is something to train
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model: Any = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(LABELS), id2label=dict(enumerate(LABELS))
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    order = sorted(texts, key=lambda one: len(one.text))
    features = []
    with torch.no_grad():
        for begin in range(0, len(order), AT_ONCE):
            some = [one.text for one in order[begin : begin + AT_ONCE]]
            read = tokenizer(
                some, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt"
            )
            features.append(model.bert(**read).last_hidden_state[:, 0])
    given, wanted = torch.cat(features), torch.tensor([int(one.positive) for one in order])
    torch.manual_seed(SEED)
    head = [*model.bert.pooler.parameters(), *model.classifier.parameters()]
    optimiser = torch.optim.AdamW(head, lr=2e-3, weight_decay=0.05)
    for _ in range(course.steps):
        picked = torch.randint(0, len(given), (128,))
        inner = torch.tanh(model.bert.pooler.dense(given[picked]))
        logits = model.classifier(torch.nn.functional.dropout(inner, 0.3))
        loss = torch.nn.functional.cross_entropy(logits, wanted[picked])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, out / name)


def measure(cache: Cache, archive: Path, course: Course) -> Sentiment:
    """Train, export, serve, and ask of texts that were not trained on.

    Raises:
        ExportError: the texts or the base cannot be had, or the model cannot be exported.
    """
    texts = read_texts(archive)
    asked, trained = texts[: course.asked], texts[course.asked :][: course.trained]
    base = VECTORS.source(cache)
    inputs = {
        "texts": ARCHIVE_SHA256,
        "trained": len(trained),
        "steps": course.steps,
        "base": base.revision,
        "code": code_digest("exporters.meaning.sentiment"),
    }
    title = f"Training a sentiment head on {len(trained)} texts"
    folder = cache.get(
        "meaning",
        inputs,
        title=title,
        make=lambda folder: train(base.folder, trained, course, folder),
    )
    source = Source(folder=folder, origin=f"{base.origin}, with a head trained on VADER's texts")
    order = EncoderOrder(source=source, variants=default_variants())
    out = cache.root / "meaning-bundles" / f"{NAME}-{len(trained)}"
    report = export_encoder(order, out, name=out.name, cache=cache, replace=True)
    return Sentiment(
        trained=len(trained),
        steps=course.steps,
        demanded=course.demanded,
        found=tuple(_ask(report.bundle, made.name, asked) for made in report.exported.variants),
    )


def _ask(bundle: Path, variant: str, texts: Sequence[Rated]) -> Found:
    with client_of(bundle, variant=variant) as client:
        told = client.classify(bundle.name, [one.text for one in texts], truncate=True, top_k=1)
        labels = [best.label for (best,) in told.collected().labels]
    right = [label == LABELS[one.positive] for label, one in zip(labels, texts, strict=True)]
    positive = sum(one.positive for one in texts) / len(texts)
    return Found(
        variant=variant,
        texts=len(texts),
        right=round(sum(right) / len(right), 4),
        usual=round(max(positive, 1 - positive), 4),
    )


def main() -> int:
    """Measure; 1 where too little is understood."""
    parser = argparse.ArgumentParser(prog="python -m exporters.meaning.sentiment")
    parser.add_argument("--texts", type=Path, required=True, metavar="FILE", help="the archive")
    parser.add_argument("--short", action="store_true", help="fewer texts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    arguments = parser.parse_args()
    cache = Cache(cache_root(), Progress(sys.stderr))
    result = measure(cache, arguments.texts, SHORT if arguments.short else WHOLE)
    text = msgspec.json.format(msgspec.json.encode(result), indent=1).decode()
    if arguments.json is not None:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")
    console.say(*text.splitlines())
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
