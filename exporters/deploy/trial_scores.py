"""A headed encoder's golden texts, asked of a daemon by the road that every request takes.

What a daemon tells are labels and tokens; each is compared with the score that the same one has in
the golden row, where that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nsedge.api import Aggregation, ModelInfo, Priority
from nsedge.api.labels import Text
from nsedge.api.scheduling import SchedulingFields
from nsedge.bundle.headed import (
    GoldenRow,
    GoldenScores,
    HeadedEncoder,
    MaskedLm,
    TokenClassification,
)
from nsedge.bundle.manifest import Bundle
from nsedge.ipc.client import Client
from nsedge.runtime.hosting.golden_scores import Closeness, judge_error, relative

PATIENCE_S = 300.0
"""What the daemon may take, busy as it may be."""
_HURRY: SchedulingFields = {"priority": Priority.INTERACTIVE, "deadline_s": PATIENCE_S}


def try_out_scores(client: Client, bundle: Bundle[HeadedEncoder], info: ModelInfo) -> Closeness:
    """Have the daemon's model, which `info` tells of, judge the golden texts of `bundle`.

    Raises:
        BundleInvalid: a score is too far from that of fp32.
        NsedgeError: the request was not answered.
    """
    manifest = bundle.manifest
    variant = next(one for one in manifest.variants if one.name == info.variant)
    golden = bundle.golden(manifest.tasks[0], GoldenScores)
    if isinstance(manifest.head, MaskedLm):
        errors = _of_masks(client, info.name, golden)
    else:
        errors = _of_labels(client, info.name, manifest, golden)
    worst = relative(max(errors, default=0.0), golden)
    return judge_error(worst, golden, variant=variant, name=bundle.name)


def _of_masks(client: Client, model: str, golden: Sequence[GoldenScores]) -> Iterator[float]:
    texts = [sample.text for sample in golden]
    most = max(len(row.labels) for sample in golden for row in sample.rows)
    found = client.fill(model, texts, top_k=most, **_HURRY).collected().masks
    for sample, masks in zip(golden, found, strict=True):
        for row, tokens in zip(sample.rows, masks, strict=True):
            yield from _errors(row, {one.token_id: one.score for one in tokens})


def _of_labels(
    client: Client, model: str, manifest: HeadedEncoder, golden: Sequence[GoldenScores]
) -> Iterator[float]:
    tokens = isinstance(manifest.head, TokenClassification)
    texts: list[Text] = [
        sample.text if sample.second_text is None else (sample.text, sample.second_text)
        for sample in golden
    ]
    found = client.classify(
        model,
        texts,
        aggregation=Aggregation.NONE if tokens else None,
        truncate=True,
        **_HURRY,
    ).collected()
    number = {label: at for at, label in enumerate(manifest.labels)}
    for sample, labels in zip(golden, found.labels, strict=True):
        if not tokens:
            yield from _errors(sample.rows[0], {number[one.label]: one.score for one in labels})
            continue
        for one in labels:
            yield from _errors(sample.rows[one.index or 0], {number[one.label]: one.score})


def _errors(row: GoldenRow, found: dict[int, float]) -> Iterator[float]:
    for label, score in zip(row.labels, row.scores, strict=True):
        if label in found:
            yield abs(score - found[label])
