"""The real all-MiniLM-L6-v2: its bundle is whole, near to PyTorch, and serves in process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from exporters.__main__ import main
from exporters.cache import Cache, cache_root
from exporters.encoder.outputs import cosines
from exporters.encoder.starter_folder import VECTORS
from exporters.encoder.texts import fidelity_texts
from exporters.encoder.verify import open_reader, open_variant
from exporters.progress import Progress
from nsedge.api import Embed, Request
from nsedge.api.stream import EventStream
from nsedge.bundle.encoder import Encoder
from nsedge.bundle.manifest import Bundle
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.runtime.settings import EngineSettings

pytestmark = pytest.mark.integration

Floats = NDArray[np.float32]
NEAR = ("A man is playing the guitar.", "Somebody plays an instrument.")
FAR = "The quarterly figures were published on Tuesday."
LEAST = {"fp32": 0.9999}


@pytest.fixture(scope="module")
def bundle(embeddings_bundle: Path) -> Bundle[Encoder]:
    return Bundle.open(embeddings_bundle).of_kind(Encoder)


@pytest.fixture(scope="module")
def wanted() -> Floats:
    """What transformers makes of our texts, each alone, with its own tokenizer."""
    folder = VECTORS.source(Cache(cache_root(), Progress(None))).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    vectors = []
    for text in fidelity_texts():
        read = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            states = model(**read).last_hidden_state[0]
        vectors.append(torch.nn.functional.normalize(states.mean(0), dim=-1).numpy())
    return np.stack(vectors)


def test_every_variant_is_near_to_pytorch(bundle: Bundle[Encoder], wanted: Floats) -> None:
    ids = open_reader(bundle).read(fidelity_texts(), truncate=True)
    for variant in bundle.manifest.variants:
        session = open_variant(bundle, variant)
        near = cosines(wanted, session.run(ids))
        assert near.min() >= LEAST.get(variant.scheme, 0.99), variant.name


def test_verify_is_content(bundle: Bundle[Encoder], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


def test_meanings_lie_near_each_other(embeddings_bundle: Path) -> None:
    async def ask() -> Floats:
        service = LocalService(ServiceSettings(bundles=(embeddings_bundle,)))
        await service.start()
        try:
            request = Request(
                request_id="r", model=embeddings_bundle.name, task=Embed(inputs=(*NEAR, FAR))
            )
            return (await EventStream(service, request).embeddings()).array
        finally:
            await service.stop()

    a, b, far = asyncio.run(ask())
    assert a @ b > 0.5 > 0.2 > a @ far


def test_a_variant_can_be_asked_for(embeddings_bundle: Path) -> None:
    async def ask() -> tuple[str | None, Floats]:
        engine = EngineSettings(variants={embeddings_bundle.name: "cpu-fp32"})
        service = LocalService(ServiceSettings(bundles=(embeddings_bundle,), engine=engine))
        await service.start()
        try:
            request = Request(request_id="r", model=embeddings_bundle.name, task=Embed(inputs=NEAR))
            vectors = (await EventStream(service, request).embeddings()).array
            return (await service.models())[0].variant, vectors
        finally:
            await service.stop()

    variant, vectors = asyncio.run(ask())
    assert variant == "cpu-fp32"
    bundle = Bundle.open(embeddings_bundle).of_kind(Encoder)
    exact = open_variant(bundle, bundle.manifest.variants[-1])
    wanted = exact.run(open_reader(bundle).read(NEAR, truncate=True))
    assert cosines(wanted, vectors).min() >= 0.9999
