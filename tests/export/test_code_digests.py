"""Whatever a stage runs of the project's code is in the digest of what it makes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from gguf import GGMLQuantizationType as Kind

from exporters.bundle.build import Export
from exporters.bundle.export_folder import write_export
from exporters.bundle.orders import Order, variants_named
from exporters.bundle.stages import SCALES_MODULE, TRIAL_MODULE, VARIANT_MODULE
from exporters.cache import Cache, Inputs
from exporters.code import PACKAGES, WITHOUT_EFFECT, SourceTree
from exporters.finetune import adapters, dataset, making, merge, settings, train
from exporters.finetune.device import Place, Precision
from exporters.gguf.importing import built, gguf_source
from exporters.model.source import Source
from exporters.progress import Progress
from exporters.trace.route import TRACED
from tests.export.finetuning import write_dataset
from tests.export.gguf_models import write_model
from tests.export.tiny import write_model_folder

pytestmark = pytest.mark.export

TREE = SourceTree(Path(__file__).parents[2], PACKAGES, without_effect=WITHOUT_EFFECT)
CALLING = {
    *("exporters.bundle.stages", "exporters.bundle.reference_stages"),
    *("exporters.gguf.importing", "exporters.trace.route"),
    *WITHOUT_EFFECT,
}
"""They call what makes a result with what its key holds."""
STAGES = {
    "variant": VARIANT_MODULE,
    "kv-scales": SCALES_MODULE,
    "golden": TRIAL_MODULE,
    "answers": TRIAL_MODULE,
    "trial": TRIAL_MODULE,
    "gguf": "exporters.gguf.folder",
}


@contextmanager
def executed() -> Iterator[set[str]]:
    """The modules of the project whose functions this thread runs meanwhile."""
    ran: set[str] = set()

    def enter(frame: FrameType, event: str, argument: object) -> None:
        name = str(frame.f_globals.get("__name__"))
        if event == "call" and name.partition(".")[0] in PACKAGES:
            ran.add(name)

    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        yield ran
    finally:
        sys.setprofile(before)


class WatchedCache(Cache):
    """Notes what runs while each stage makes a result; of a stage within it, nothing."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, Progress(None))
        self.ran: dict[str, set[str]] = {}

    def get(self, stage: str, inputs: Inputs, *, title: str, make: Callable[[Path], None]) -> Path:
        def watched(folder: Path) -> None:
            with executed() as ran:
                make(folder)
            self.ran.setdefault(stage, set()).update(ran)

        return super().get(stage, inputs, title=title, make=watched)


@pytest.fixture
def cache(tmp_path: Path) -> WatchedCache:
    return WatchedCache(tmp_path / "cache")


@pytest.fixture
def base(tmp_path: Path) -> Source:
    return Source(folder=write_model_folder(tmp_path / "Tiny"), origin="Tiny")


def missed(ran: set[str], *modules: str) -> set[str]:
    return ran - TREE.behind(*modules) - CALLING


def check(cache: WatchedCache, modules: dict[str, str]) -> None:
    """Every stage ran, and nothing that its digest lacks; what is made of the fp32 graph has that
    one's key in its own."""
    assert set(cache.ran) == set(modules)
    for stage, module in modules.items():
        assert module in cache.ran[stage]
        keyed = [modules["reference"]] if stage != "gguf" else []
        assert missed(cache.ran[stage], module, *keyed) == set(), stage


def test_of_a_traced_model(base: Source, cache: WatchedCache, tmp_path: Path) -> None:
    names = "cuda-int4,cpu-int8,cpu-mixed,cpu-w8a8,cpu-int4-kv8"
    order = Order(source=base, variants=variants_named(names))
    with executed() as ran:
        write_export(Export(order, cache), tmp_path / "out", cache=cache, replace=False)
    stages = {stage: module for stage, module in STAGES.items() if stage != "gguf"}
    check(cache, stages | {"reference": TRACED.module})
    assert "exporters.measure.fidelity" in cache.ran["variant"]
    assert missed(ran, "exporters.bundle.export_folder") == set()


@pytest.mark.parametrize("scheme", ["x4", "gguf"])
def test_of_a_gguf_file(cache: WatchedCache, tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_model(path, "llama", Kind.Q4_0, general__license="mit")
    source = gguf_source(path, cache)
    route = built(source.file)
    names = f"cpu-{scheme},cpu-{scheme}-kv8"
    order = Order(source=source, variants=variants_named(names), route=route)
    Export(order, cache).product({})
    check(cache, STAGES | {"reference": route.module})
    assert {"exporters.graph.fold", "exporters.measure.runner"} <= TREE.behind(VARIANT_MODULE)


def test_of_a_dataset(base: Source, tmp_path: Path) -> None:
    rows = [{"prompt": f"Who is {i}?", "completion": f"Nobody {i}."} for i in range(8)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    order = making.DatasetOrder(inputs=(path,), output=tmp_path / "train.jsonl", base=base)
    with executed() as ran:
        dataset.make_dataset(order, Progress(None))
    assert "nsedge.runtime.text.template" in ran
    assert missed(ran, dataset.__name__) == set()


def test_of_an_adapter_and_of_what_it_is_merged_into(
    base: Source, cache: WatchedCache, tmp_path: Path
) -> None:
    order = train.Order(
        source=base,
        dataset=write_dataset(tmp_path / "train.jsonl"),
        settings=settings.Settings(rank=4, steps=2),
        place=Place(device="cpu", precision=Precision.FP32, name="CPU"),
        threads=1,
    )
    with executed() as ran:
        trained = train.train(order, tmp_path / "adapter", cache=cache)
    assert missed(ran, train.__name__) == set()
    adapter = adapters.Adapter(folder=trained.adapter, name="one", weight=1.0)
    with executed() as ran:
        merge.merge(merge.Order(source=base, adapters=(adapter,)), tmp_path / "merged", cache=cache)
    assert "exporters.finetune.reference_logits" in ran
    assert missed(ran, merge.__name__) == set()
