"""Every architecture we name, from torch to a cleaned graph, against eager torch.

The comparison reads rows of unequal length in chunks and goes on with them together, over twice
the sliding window.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import exporters.quantise.blocks
from exporters.errors import Refused
from exporters.graph.graph import Graph, attribute
from exporters.graph.native import write_native
from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, native_form
from exporters.measure.runner import Runner
from exporters.quantise.schemes import SCHEMES
from exporters.trace.clean import clean
from exporters.trace.decoder_export import export_raw, has_optimum
from exporters.trace.decoder_trace import IMPLEMENTATION
from exporters.trace.reference import (
    check_architecture,
    compare,
    context_length,
    export_clean,
    kv_layout,
)
from exporters.trace.signature import RAW_FILE
from nsedge import native
from nsedge.bundle.causal_lm import GraphIo, KvLayout
from tests.export.tiny import (
    MODELS,
    NEXT,
    POSITIONS,
    SIZES,
    VOCABULARY,
    WINDOW,
    make_model,
)

pytestmark = pytest.mark.export

TOLERANCE = 1e-4
QUANTISED_TOLERANCE = 0.5
ROTARY_IN_GRAPH = {"llama-heads-of-8", "gpt_neox", "ministral3", "nanochat", "gpt_oss"}
LEARNED_POSITIONS = {"gpt2", "opt"}
THROUGH_OPTIMUM = {"qwen3_moe"}
"""transformers 4.57 looks at the chosen experts in Python; Optimum has another way."""
TRANSPOSED = {
    "qwen3_moe": 8 if NEXT else 10,
    "mellum": 8,
    "mixtral": 8,
    "ministral3-near": 4,
}
"""Experts sort tokens; queries are scaled between projection and attention."""
NATIVE_LACKS = {
    "cwm": "local_window_size",
    "ministral3": "in every layer",
    "ministral3-near": "before the rotary embedding",
    "nanochat": "in every layer",
    "mellum": "before the rotary embedding",
    "gpt_oss": "in every layer",
    "mistral-window": "local_window_size",
    "starcoder2": "local_window_size",
    "gemma2": "something is done to keys|softcap|local_window_size",
    "gemma3": "local_window_size|before the rotary embedding",
    "qwen3": "before the rotary embedding",
    "qwen3_moe": "before the rotary embedding",
    "smollm3": "in every layer",
    "gpt_neox": "in every layer",
    "gpt2": "in every layer",
    "opt": "in every layer",
    "llama-heads-of-8": "in every layer",
}
"""Why the daemon's own operators have no form of a model; the others have one."""


def operators(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_computes_what_torch_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(name)
    check_architecture(model.config)
    kv = kv_layout(model.config)
    assert context_length(model.config, 1000) == POSITIONS
    before = torch_logits(model)
    io, nodes = export_clean(model, tmp_path, kv=kv, context=POSITIONS)
    assert compare(model, tmp_path / GRAPH_FILE, io=io, kv=kv) <= TOLERANCE
    assert nodes["GroupQueryAttention"] == 2
    positions_come_in = ROTARY_IN_GRAPH | LEARNED_POSITIONS
    assert (io.position_ids is not None) == (name in positions_come_in)
    if not nodes["LayerNormalization"] and io.position_ids is None:
        assert nodes["SkipSimplifiedLayerNormalization"] == 4
        assert nodes["Transpose"] == TRANSPOSED.get(name, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    torch.testing.assert_close(torch_logits(model), before)  # the model is as it was

    monkeypatch.setattr(exporters.quantise.blocks, "LARGE", 4096)
    graph = Graph.load(tmp_path / GRAPH_FILE)
    kept = exporters.quantise.blocks.quantise(graph, SCHEMES["int8-b32"])
    small = tmp_path / "small"
    small.mkdir()
    graph.save(small / GRAPH_FILE)
    assert "MatMul" not in kept
    # Outside the operator, a rotary embedding multiplies positions by a few frequencies; in
    # transformers 5, element by element.
    assert operators(graph).count("MatMul") == (name in ROTARY_IN_GRAPH and not NEXT)
    assert "Gemm" not in operators(graph)
    assert "GatherBlockQuantized" in operators(graph)
    near = compare(model, small / GRAPH_FILE, io=io, kv=kv)
    assert TOLERANCE < near <= QUANTISED_TOLERANCE

    lacks = write_native(small / GRAPH_FILE, small / NATIVE_FILE)
    if name in NATIVE_LACKS:
        assert lacks is not None
        assert re.search(NATIVE_LACKS[name], lacks), lacks
        return
    assert lacks is None
    if native.why_not() is None:
        record = native_form(io, kv)
        assert compare_native(model, small / NATIVE_FILE, *record) <= QUANTISED_TOLERANCE


def compare_native(model: Any, graph: Path, io: GraphIo, kv: KvLayout) -> float:
    """Greatest difference in log-probability between the native form and torch."""
    ids = torch.arange(3, 40) % VOCABULARY
    runner = Runner(graph, io=io, kv=kv, capacity=POSITIONS, requires=(native.REQUIREMENT,))
    got = torch.from_numpy(runner.log_probs(ids.tolist()))
    with torch.no_grad():
        wanted = torch.log_softmax(model(input_ids=ids[None], use_cache=False).logits[0], dim=-1)
    return float((got - wanted).abs().max())


def torch_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 30)[None], use_cache=False).logits


@pytest.mark.parametrize(
    ("name", "windows"),
    [("mistral-window", 2), ("gemma3", 1), ("gemma2", 1), ("starcoder2", 2), ("llama", 0)],
)
def test_windows_reach_the_operator(name: str, windows: int, tmp_path: Path) -> None:
    model = make_model(name)
    export_clean(model, tmp_path, kv=kv_layout(model.config), context=POSITIONS)
    found = [
        attribute(node, "local_window_size")
        for node in Graph.load(tmp_path / GRAPH_FILE).nodes
        if node.op_type == "GroupQueryAttention"
    ]
    assert found.count(WINDOW) == windows
    assert found.count(None) == len(found) - windows


def test_query_key_and_value_are_one_product_where_nothing_is_in_between(tmp_path: Path) -> None:
    for name in ("llama", "qwen2", "phi3", "mistral-window"):
        model = make_model(name)
        folder = tmp_path / name
        folder.mkdir()
        export_clean(model, folder, kv=kv_layout(model.config), context=POSITIONS)
        for node in Graph.load(folder / GRAPH_FILE).nodes:
            if node.op_type == "GroupQueryAttention":
                assert list(node.input[1:3]) == ["", ""], name


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("phi3", {}),  # one projection in the model's own code, halves cut from it
        ("mistral-window", {}),
        ("qwen2", {"Add": 2, "MatMul": 8, "FusedMatMul": 1}),  # biases; head and embedding tied
        ("qwen3", {"Split": 4, "SimplifiedLayerNormalization": 5, "Reshape": 8}),  # heads normed
    ],
)
def test_graphs_are_as_small_as_by_hand(name: str, changed: dict[str, int], tmp_path: Path) -> None:
    by_hand = {
        "Gather": 3,  # the embedding; the wanted rows of attention and of the residual
        "SimplifiedLayerNormalization": 1,
        "MatMul": 9,
        "GroupQueryAttention": 2,
        "SkipSimplifiedLayerNormalization": 4,
        "Split": 2,
        "QuickGelu": 2,
        "Mul": 2,
    }
    model = make_model(name)
    _, nodes = export_clean(model, tmp_path, kv=kv_layout(model.config), context=POSITIONS)
    assert dict(nodes) == by_hand | changed


def test_soft_caps_reach_the_operator_and_the_logits(tmp_path: Path) -> None:
    model = make_model("gemma2")
    _, nodes = export_clean(model, tmp_path, kv=kv_layout(model.config), context=POSITIONS)
    caps = [
        attribute(node, "softcap")
        for node in Graph.load(tmp_path / GRAPH_FILE).nodes
        if node.op_type == "GroupQueryAttention"
    ]
    assert caps == [5.0, 5.0]
    assert nodes["Tanh"] == 1


def test_layers_without_positions_are_left_without(tmp_path: Path) -> None:
    model = make_model("smollm3")
    export_clean(model, tmp_path, kv=kv_layout(model.config), context=POSITIONS)
    rotates = [
        attribute(node, "do_rotary")
        for node in Graph.load(tmp_path / GRAPH_FILE).nodes
        if node.op_type == "GroupQueryAttention"
    ]
    assert rotates == [1, 0]


def test_learned_positions_end_with_their_table() -> None:
    config = transformers.GPT2Config(n_positions=48)
    assert context_length(config, 1000) == 48
    assert context_length(transformers.OPTConfig(max_position_embeddings=64), 1000) == 64


def test_gelu_is_one_node(tmp_path: Path) -> None:
    model = make_model("gemma3")
    _, nodes = export_clean(model, tmp_path, kv=kv_layout(model.config), context=POSITIONS)
    assert nodes["FastGelu"] == 2
    assert nodes["Tanh"] == 0


def test_models_beyond_what_one_file_holds_come_with_external_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")  # as Optimum does from 2 GiB on
    model = make_model("llama-tied-llama3-rope")
    kv = kv_layout(model.config)
    io, nodes = export_clean(model, tmp_path, kv=kv, context=POSITIONS)
    assert nodes["FusedMatMul"] == 1
    assert compare(model, tmp_path / GRAPH_FILE, io=io, kv=kv) <= TOLERANCE


def test_a_failing_trace_leaves_the_model_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama")
    before = torch_logits(model)

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        export_clean(model, tmp_path, kv=kv_layout(model.config), context=POSITIONS)
    assert list(tmp_path.iterdir()) == []
    assert IMPLEMENTATION not in transformers.AttentionInterface._global_mapping
    torch.testing.assert_close(torch_logits(model), before)


def test_what_has_another_attention_is_refused_by_its_configuration() -> None:
    with pytest.raises(Refused, match=r"bart|no causal LM|exchanged"):
        check_architecture(transformers.T5Config())
    with pytest.raises(Refused, match="MambaForCausalLM"):
        check_architecture(transformers.MambaConfig())


@pytest.mark.skipif(not NEXT, reason="transformers 4.57 does not know the model")
def test_layers_that_differ_in_their_heads_are_refused() -> None:
    with pytest.raises(Refused, match="gemma4_text: its layers have heads of several sizes"):
        kv_layout(transformers.Gemma4TextConfig(**SIZES))


@pytest.mark.parametrize(
    ("scaling", "most", "length"),
    [
        (None, 1000, POSITIONS),
        (None, 64, 64),
        ({"rope_type": "dynamic", "factor": 2.0}, 1000, POSITIONS),
        ({"rope_type": "longrope", "original_max_position_embeddings": 32}, 1000, 32),
    ],
)
def test_tables_end_where_they_would_be_wrong(
    scaling: dict[str, Any] | None, most: int, length: int
) -> None:
    config = transformers.LlamaConfig(**SIZES)
    config.rope_scaling = scaling
    assert context_length(config, most) == length


def test_positions_come_in_where_they_do_more_than_rotate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama")
    layer = model.model.layers[1]
    forward = layer.forward

    def grown(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        grown = hidden_states * (1 + kwargs["position_ids"][..., None] / 100)
        return forward(grown, *args, **kwargs)

    monkeypatch.setattr(layer, "forward", grown)
    kv = kv_layout(model.config)
    io, _ = export_clean(model, tmp_path, kv=kv, context=POSITIONS)
    assert io.position_ids is not None
    assert compare(model, tmp_path / GRAPH_FILE, io=io, kv=kv) <= TOLERANCE


def test_a_rotation_that_turns_the_other_way_stays_in_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama")
    home = sys.modules[type(model).__module__]
    rotate_half = home.rotate_half
    monkeypatch.setattr(home, "rotate_half", lambda x: -rotate_half(x))
    kv = kv_layout(model.config)
    io, _ = export_clean(model, tmp_path, kv=kv, context=POSITIONS)
    assert io.position_ids is not None
    assert compare(model, tmp_path / GRAPH_FILE, io=io, kv=kv) <= TOLERANCE


@pytest.mark.skipif(not has_optimum(), reason="Optimum is not beside transformers 5")
@pytest.mark.parametrize("name", sorted(MODELS.keys() - THROUGH_OPTIMUM))
def test_pytorchs_exporter_makes_the_graph_that_optimum_does(name: str, tmp_path: Path) -> None:
    graphs = []
    for optimum in (True, False):
        folder = tmp_path / str(optimum)
        folder.mkdir()
        model = make_model(name)
        export_raw(model, folder, kv=kv_layout(model.config), positions=POSITIONS, optimum=optimum)
        graph = Graph.load(folder / RAW_FILE)
        clean(graph)
        graphs.append(graph)
    one, other = graphs
    assert operators(one) == operators(other)
    assert [value.name for value in one.inputs] == [value.name for value in other.inputs]
    assert one.output_names() == other.output_names()
    assert one.weights.keys() == other.weights.keys()
    for key, weight in one.weights.items():
        np.testing.assert_array_equal(weight, other.weights[key], err_msg=key)
