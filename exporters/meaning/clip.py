"""Whether a small CLIP, trained, exported and served, tells colours and shapes that it has not
seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from exporters.bundle.orders import variants_named
from exporters.cache import Cache
from exporters.dual_encoder.build import DualOrder, export_dual_encoder
from exporters.meaning.easy_vqa import COLOURS, SHAPES, Shown, read_pictures
from exporters.meaning.fitting import Course
from exporters.meaning.results import Found, Measured, Share, trained
from exporters.meaning.serving import client_of
from exporters.meaning.small_clip import COLOUR_PROMPT, SHAPE_PROMPT, train
from exporters.model.source import Source
from nsedge.api import Media
from nsedge.ipc.client import Client

NAME = "small-clip"
ORIGIN = "small-clip, trained on easy-vqa"
VARIANTS = "cpu-int8-b64,cpu-fp32"
AT_ONCE = 64


def measure(cache: Cache, course: Course, *, most: int | None = None) -> Measured:
    """Train, export, serve, and ask of the test pictures, at most `most`.

    Raises:
        ExportError: the pictures cannot be had, or the model cannot be exported.
    """
    took: list[float] = []

    def make(folder: Path) -> None:
        shown = read_pictures(cache, "train")
        took.append(train(shown, course, folder, tell=cache.progress.note))

    title = f"Training a small CLIP in {course.steps} steps"
    module = "exporters.meaning.small_clip"
    folder = trained(cache, course, module, title=title, make=make)
    source = Source(folder=folder, origin=ORIGIN)
    order = DualOrder(source=source, variants=variants_named(VARIANTS))
    out = cache.root / "meaning-bundles" / f"{NAME}-{course.steps}"
    report = export_dual_encoder(order, out, name=out.name, cache=cache, replace=True)
    pictures = read_pictures(cache, "test")[:most]
    return Measured(
        steps=course.steps,
        batch=course.batch,
        train_s=round(took[0], 1) if took else None,
        demanded=course.demanded,
        found=tuple(_ask(report.bundle, made.name, pictures) for made in report.towers),
    )


def _ask(bundle: Path, variant: str, pictures: Sequence[Shown]) -> Found:
    colours = [(one.png, one.colour) for one in pictures if one.colour is not None]
    shapes = [(one.png, one.shape) for one in pictures if one.shape is not None]
    with client_of(bundle, variant=variant) as client:
        return Found(
            variant=variant,
            colour=_share(client, bundle.name, colours, COLOUR_PROMPT, sorted(COLOURS)),
            shape=_share(client, bundle.name, shapes, SHAPE_PROMPT, sorted(SHAPES)),
        )


def _share(
    client: Client,
    model: str,
    pictures: Sequence[tuple[bytes, str]],
    prompt: str,
    labels: Sequence[str],
) -> Share:
    """How often the surest of `labels` is what a picture shows."""
    right = 0
    for begin in range(0, len(pictures), AT_ONCE):
        some = pictures[begin : begin + AT_ONCE]
        media = [Media(type="image/png", data=png) for png, _ in some]
        found = client.classify(model, media, labels=labels, prompt=prompt, top_k=1).collected()
        told = [best.label for (best,) in found.labels]
        right += sum(label == wanted for label, (_, wanted) in zip(told, some, strict=True))
    return Share(pictures=len(pictures), right=round(right / len(pictures), 4))
