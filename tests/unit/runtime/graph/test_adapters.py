"""Adapters: their packages, their matrices side by side, and runs that mix them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.adapter.graph import with_adapters
from nsedge.bundle.adapter import Adapter, is_adapter, open_package
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.sites import Part, Site
from nsedge.errors import BundleInvalid
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence, State
from nsedge.runtime.graph.adapters import AdapterStack, LoadedAdapter, Owned, Window
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor
from tests.unit.bundles import write_bundle
from tests.unit.tiny_adapter import SITE, write_adapter
from tests.unit.tiny_decoder import HEADS, IO, KV_HEADS, WIDTH, save, tiny_graph

Floats = NDArray[np.float32]
Pairs = dict[str, tuple[Floats, Floats]]
OTHER = Site(
    name="/model/layers.1/attn/q_proj+2",
    role=SITE.role,
    width=6,
    parts=(Part(module="model.layers.1.attn.q_proj", width=8),),
)
OUT = Site(name="o", role="o", width=8, parts=(Part(module="model.layers.0.o", width=6),))


def pair(rank: int, width: int, outputs: int) -> tuple[Floats, Floats]:
    random = np.random.default_rng(rank * 1000 + width)
    a = random.standard_normal((rank, width), np.float32)
    return a, random.standard_normal((rank, outputs), np.float32) * np.float32(0.2)


def given(stack: AdapterStack, site: Site, owned: list[Owned], x: Floats) -> Floats:
    """What the graph would add to the product of x [tokens, width] at a site."""
    window = stack.window(one.adapter for one in owned if one.adapter is not None)
    matrices = dict(stack.matrices(window))
    mask = dict(stack.masks(window, owned))[f"adapter.{site.role}.mask"]
    a, b = matrices[f"adapter.{site.name}.a"], matrices[f"adapter.{site.name}.b"]
    return ((x @ a.T) * mask[0]) @ b


SETS: dict[str, Pairs] = {
    "one": {
        "model.layers.0.attn.q_proj": pair(2, 6, 4),
        "model.layers.0.attn.v_proj": pair(2, 6, 2),
        "model.layers.1.attn.q_proj": pair(3, 6, 8),
    },
    "two": {"model.layers.0.o": pair(5, 8, 6), "model.layers.0.attn.k_proj": pair(1, 6, 2)},
    "three": {"model.layers.0.attn.v_proj": pair(4, 6, 2)},
}


def expected(pairs: Pairs, site: Site, x: Floats) -> Floats:
    parts = []
    for part in site.parts:
        if part.module in pairs:
            a, b = pairs[part.module]
            parts.append(x @ a.T @ b)
        else:
            parts.append(np.zeros((len(x), part.width), np.float32))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("keys", [("one",), ("two", "one"), ("three", "one", "two")])
def test_every_token_goes_through_its_own_adapter(keys: tuple[str, ...]) -> None:
    sites = (SITE, OTHER, OUT)
    stack = AdapterStack(sites, [LoadedAdapter.of(key, sites, SETS[key]) for key in keys])
    owned = [Owned(None, 2), *(Owned(key, 1 + place) for place, key in enumerate(keys))]
    for site in sites:
        x = np.random.default_rng(1).standard_normal((sum(o.tokens for o in owned), site.width))
        x = x.astype(np.float32)
        added, begin = given(stack, site, owned, x), 0
        for one in owned:
            rows = slice(begin, begin + one.tokens)
            pairs = SETS[one.adapter] if one.adapter else {}
            np.testing.assert_allclose(added[rows], expected(pairs, site, x[rows]), atol=1e-5)
            begin += one.tokens


def test_a_run_reads_no_more_of_the_stack_than_it_needs_and_copies_nothing() -> None:
    sites = (SITE, OUT)
    adapters = [LoadedAdapter.of(key, sites, SETS[key]) for key in ("one", "two", "three")[1:]]
    stack = AdapterStack(sites, adapters)
    a = dict(stack.matrices(stack.window(["three"])))[f"adapter.{SITE.name}.a"]
    assert a.shape == (4, 6)
    assert np.shares_memory(a, stack.adapter("three").at(SITE).a)
    assert stack.window(["three", "two"]) == Window(0, 1)
    assert dict(stack.matrices(Window(1, 1)))["adapter.o.a"].shape == (0, 8)


def test_the_others_stay_what_they_are_when_one_comes_or_goes() -> None:
    sites = (SITE, OUT)
    stack = AdapterStack(sites, [LoadedAdapter.of("one", sites, SETS["three"])])
    more = stack.with_(LoadedAdapter.of("two", sites, SETS["two"]))
    left = more.without("one")
    assert [one.key for one in left.adapters] == ["two"]
    np.testing.assert_array_equal(left.adapter("two").at(OUT).a, SETS["two"]["model.layers.0.o"][0])
    assert left.adapter("two").nbytes == more.adapter("two").nbytes


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(BundleInvalid, match=r"changes lm_head, which no product"):
        LoadedAdapter.of("x", (SITE,), {"lm_head": pair(2, 6, 4)})
    with pytest.raises(BundleInvalid, match=r"q_proj are \(2, 5\).* 6 inputs and 4 outputs"):
        LoadedAdapter.of("x", (SITE,), {"model.layers.0.attn.q_proj": pair(2, 5, 4)})


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -1e21])
def test_numbers_that_could_overflow_in_other_rows_are_refused(side: int, odd: float) -> None:
    matrices = pair(2, 6, 4)
    matrices[side][1, 3] = odd
    with pytest.raises(BundleInvalid, match=r"q_proj hold what is no number, or one beyond 1e\+20"):
        LoadedAdapter.of("x", (SITE,), {"model.layers.0.attn.q_proj": matrices})


# Packages.


def test_a_package_is_told_from_a_bundle(tmp_path: Path) -> None:
    base = write_bundle(tmp_path / "tiny")
    opened = open_package(write_adapter(tmp_path / "a", base, "polite"))
    assert isinstance(opened, Adapter)
    assert opened.name == "tiny:polite"
    opened.verify_hashes()
    assert is_adapter(opened.path)
    assert isinstance(open_package(base), Bundle)
    assert not is_adapter(base)
    with pytest.raises(BundleInvalid, match=r"nothing-here.*No such file"):
        open_package(tmp_path / "nothing-here")


def test_another_base_is_refused_with_the_reason(tmp_path: Path) -> None:
    base = write_bundle(tmp_path / "tiny")
    adapter = Adapter.open(write_adapter(tmp_path / "a", base, "polite"))
    assert adapter.form_for(Bundle.open(base), "cpu").graph == "cpu.onnx"
    with pytest.raises(BundleInvalid, match="no graph for the variant gpu"):
        adapter.form_for(Bundle.open(base), "gpu")
    text = (base / "manifest.json").read_text()
    digest = Bundle.open(base).manifest.files["cpu/model.onnx"].sha256
    (base / "manifest.json").write_text(text.replace(digest, "f" * 64))
    with pytest.raises(BundleInvalid, match=r"made for another base: the weights cpu/model\.onnx"):
        adapter.form_for(Bundle.open(base), "cpu")


def test_damaged_matrices_are_told(tmp_path: Path) -> None:
    base = write_bundle(tmp_path / "tiny")
    path = write_adapter(tmp_path / "a", base, "polite")
    assert set(Adapter.open(path).matrices()) == {SITE.parts[0].module}
    adapter = Adapter.open(path)
    raw = (path / "adapter.npz").read_bytes()
    (path / "adapter.npz").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(BundleInvalid, match=r"adapter.npz"):
        adapter.matrices()
    with pytest.raises(BundleInvalid, match="bytes, the manifest says"):
        Adapter.open(path)


# Runs of a tiny decoder.

MIX = Site(
    name="mix_0",
    role="mix",
    width=HEADS * WIDTH,
    parts=(Part(module="mix", width=(HEADS + 2 * KV_HEADS) * WIDTH),),
)
PROMPTS = ((3, 1, 4, 1, 5), (9, 2, 6), (5, 3, 5, 8, 9, 7), (9, 3))
ADAPTERS = ("one", None, "two", "one")


def sites_of_tiny() -> dict[str, LoadedAdapter]:
    return {
        key: LoadedAdapter.of(key, (MIX,), {"mix": pair(rank, MIX.width, MIX.outputs)})
        for key, rank in (("one", 2), ("two", 5))
    }


@pytest.fixture
def runner(source: Source, tmp_path: Path) -> Executor:
    made = open_executor(source)
    (tmp_path / "elsewhere").mkdir()
    graph = tmp_path / "elsewhere" / "adapters.onnx"
    graph.write_bytes(with_adapters(source.graph, (MIX,), source.variant.io))
    loaded = sites_of_tiny()
    made.open_adapters(graph, AdapterStack((MIX,), loaded.values()))
    return made


def sequences(adapters: tuple[str | None, ...] = ADAPTERS) -> list[Sequence]:
    made = []
    for row, (prompt, adapter) in enumerate(zip(PROMPTS, adapters, strict=True)):
        one = Sequence(
            prompt_ids=prompt, limits=Limits(max_tokens=9), submitted_s=0.0, adapter=adapter
        )
        one.move(State.PREFILL)
        one.row = row
        made.append(one)
    return made


def read_and_decode(runner: Executor, chosen: list[Sequence]) -> Floats:
    """Logits after each prompt, then after a further token of each; float32 [2, rows, V]."""
    chunks = tuple(Chunk(one, one.held_row, 0, len(one.prompt_ids)) for one in chosen)
    first = runner.run(StepPlan((), chunks, ())).array.copy()
    for one in chosen:
        one.kv_length = len(one.prompt_ids)
        one.output_ids.append(7)
        one.move(State.RUNNING)
    return np.stack([first, runner.run(StepPlan((), (), tuple(chosen))).array.copy()])


def test_in_one_batch_each_row_is_what_it_is_alone(runner: Executor) -> None:
    together = read_and_decode(runner, sequences())
    for row, one in enumerate(sequences()):
        one.row = 0
        alone = read_and_decode(runner, [one])
        np.testing.assert_allclose(together[:, row], alone[:, 0], atol=2e-5)
    plain = read_and_decode(runner, sequences((None,) * 4))
    np.testing.assert_array_equal(plain[:, 1], together[:, 1])
    for row in (0, 2, 3):
        assert np.abs(plain[:, row] - together[:, row]).max() > 0.1


def test_without_adapters_nothing_changes(runner: Executor, source: Source) -> None:
    plain = read_and_decode(open_executor(source), sequences((None,) * 4))
    np.testing.assert_array_equal(read_and_decode(runner, sequences((None,) * 4)), plain)


def test_an_adapter_is_what_the_merged_weights_are(source: Source, tmp_path: Path) -> None:
    if source.variant.requires:
        pytest.skip("its cache is rounded")
    a, b = pair(5, MIX.width, MIX.outputs)
    graph = tiny_graph()
    graph.weights["mix0"] = graph.weights["mix0"] + a.T @ b
    merged = dataclasses.replace(source, graph=save(graph, tmp_path / "merged"))
    made = open_executor(source)
    (tmp_path / "graph.onnx").write_bytes(with_adapters(source.graph, (MIX,), IO))
    made.open_adapters(tmp_path / "graph.onnx", AdapterStack((MIX,), [sites_of_tiny()["two"]]))
    np.testing.assert_allclose(
        read_and_decode(made, sequences(("two",) * 4)),
        read_and_decode(open_executor(merged), sequences((None,) * 4)),
        atol=1e-4,
    )


def test_adapters_come_and_go_between_steps(runner: Executor) -> None:
    wanted = read_and_decode(runner, sequences(("two",) * 4))
    runner.use_adapters(AdapterStack((MIX,), [sites_of_tiny()["two"]]))
    np.testing.assert_allclose(read_and_decode(runner, sequences(("two",) * 4)), wanted, atol=2e-5)
    with pytest.raises(KeyError):
        read_and_decode(runner, sequences(("one",) * 4))
    runner.close_adapters()
    with pytest.raises(RuntimeError, match="not loaded"):
        read_and_decode(runner, sequences(("two",) * 4))


def test_after_a_failed_step_adapters_are_served_still(runner: Executor) -> None:
    wanted = read_and_decode(runner, sequences())
    runner.recover()
    np.testing.assert_array_equal(read_and_decode(runner, sequences()), wanted)


def test_a_graph_that_cannot_be_run_is_refused_at_once(source: Source, tmp_path: Path) -> None:
    made = open_executor(source)
    (tmp_path / "other.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleInvalid, match="cannot be loaded"):
        made.open_adapters(tmp_path / "other.onnx", AdapterStack((MIX,), sites_of_tiny().values()))
    with pytest.raises(BundleInvalid, match="cannot be run"):
        made.open_adapters(source.graph, AdapterStack((MIX,), sites_of_tiny().values()))
