"""Whether a small captioner, trained, exported and served, says the colours and shapes of pictures
that it has not seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from exporters.bundle.orders import variants_named
from exporters.cache import Cache
from exporters.caption.build import CaptionOrder, export_caption
from exporters.meaning.easy_vqa import COLOURS, SHAPES, Shown, read_pictures
from exporters.meaning.fitting import Course
from exporters.meaning.results import Found, Measured, Share, trained
from exporters.meaning.serving import client_of
from exporters.meaning.small_captioner import train
from exporters.model.source import Source
from nsedge.api import Media
from nsedge.ipc.client import Client
from nsedge.ipc.sync import Events

NAME = "small-captioner"
ORIGIN = "small-captioner, trained on easy-vqa"
VARIANTS = "cpu-int8-b64,cpu-fp32"
LIMITS = {"kl": 0.05}
"""Patterns are far from what such a model has seen: it is less sure of them than of pictures."""
AT_ONCE = 16
SHORT = Course(steps=300, demanded=0.3)
WHOLE_COURSE = Course(steps=1500, demanded=0.95)


def measure(cache: Cache, course: Course, *, most: int | None = None) -> Measured:
    """Train, export, serve, and have the test pictures captioned, at most `most`.

    Raises:
        ExportError: the pictures cannot be had, or the model cannot be exported.
    """
    took: list[float] = []

    def make(folder: Path) -> None:
        shown = read_pictures(cache, "train")
        took.append(train(shown, course, folder, tell=cache.progress.note))

    title = f"Training a small captioner in {course.steps} steps"
    module = "exporters.meaning.small_captioner"
    folder = trained(cache, course, module, title=title, make=make)
    order = CaptionOrder(
        source=Source(folder=folder, origin=ORIGIN), variants=variants_named(VARIANTS)
    )
    out = cache.root / "meaning-bundles" / f"{NAME}-{course.steps}"
    report = export_caption(order, out, name=out.name, cache=cache, overrides=LIMITS, replace=True)
    pictures = read_pictures(cache, "test")[:most]
    return Measured(
        steps=course.steps,
        batch=course.batch,
        train_s=round(took[0], 1) if took else None,
        demanded=course.demanded,
        found=tuple(
            _ask(report.bundle, check.variant, pictures) for check in report.verdict.checks
        ),
    )


def _ask(bundle: Path, variant: str, pictures: Sequence[Shown]) -> Found:
    with client_of(bundle, variant=variant) as client:
        told = list(_captions(client, bundle.name, pictures))
    return Found(
        variant=variant,
        colour=_share([(one.colour, text) for one, text in told], COLOURS),
        shape=_share([(one.shape, text) for one, text in told], SHAPES),
    )


def _captions(client: Client, model: str, pictures: Sequence[Shown]) -> Iterator[tuple[Shown, str]]:
    """Each picture with its caption; several are asked for at once."""
    asked = deque[tuple[Shown, Events]]()
    coming = iter(pictures)
    while True:
        while len(asked) < AT_ONCE and (one := next(coming, None)) is not None:
            asked.append((one, client.caption(model, Media(type="image/png", data=one.png))))
        if not asked:
            return
        one, events = asked.popleft()
        yield one, events.collected().text


def _share(told: Sequence[tuple[str | None, str]], words: frozenset[str]) -> Share:
    """How often the one of `words` that a caption has is what the picture shows, of those of which
    that is known."""
    known = [(wanted, words & set(text.split())) for wanted, text in told if wanted is not None]
    right = sum(said == {wanted} for wanted, said in known)
    return Share(pictures=len(known), right=round(right / len(known), 4))
