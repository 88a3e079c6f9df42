"""GGUF files against the modelling code of `transformers`, and against the traced graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf.quants import quantize
from onnx import NodeProto, helper

from exporters.gguf.file import GgufFile
from exporters.gguf.graph import graph_of, make_reference
from exporters.gguf.importing import exact_scheme
from exporters.gguf.model import shape_of
from exporters.graph.graph import Graph
from exporters.graph.native import write_native
from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, ReferenceRecord, native_record
from exporters.measure.runner import Runner
from exporters.quantise.blocks import SYMMETRIC_ZERO, quantise
from exporters.quantise.schemes import SCHEMES
from exporters.quantise.x4 import quantise_x4
from exporters.trace.reference import compare, export_clean, kv_layout
from nsedge import native
from nsedge.bundle.manifest import Bundle
from tests.export.gguf_models import FAMILIES, POSITIONS, write_model

pytestmark = pytest.mark.export

TOLERANCE = 1e-4
TABLE_TOLERANCE = 1e-4
"""Sines of angles up to `POSITIONS`, of frequencies that may differ in the last bit."""
KINDS = [
    *(Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q8_0),
    *(Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.Q5_0, Kind.Q5_1),
]
IDS = list(range(5, 60))


def difference(path: Path, model: Any, out: Path) -> float:
    """The greatest one between the graph of the file and the model, in log-probability."""
    make_reference(GgufFile(path), out, max_context=POSITIONS)
    record = ReferenceRecord.read(out)
    assert record.difference is None
    return compare(model, out / GRAPH_FILE, io=record.io, kv=record.kv)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_computes_what_its_code_does(tmp_path: Path, family: str) -> None:
    model = write_model(tmp_path / "tiny.gguf", family, Kind.F32)
    assert difference(tmp_path / "tiny.gguf", model, tmp_path) <= TOLERANCE


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_type_is_turned_into_the_same_numbers(tmp_path: Path, family: str, kind: Kind) -> None:
    model = write_model(tmp_path / "tiny.gguf", family, kind)
    assert difference(tmp_path / "tiny.gguf", model, tmp_path) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_graph_that_tracing_makes(tmp_path: Path, family: str) -> None:
    model = write_model(tmp_path / "tiny.gguf", family, Kind.F32)
    export_clean(model, tmp_path, kv=kv_layout(model.config), context=POSITIONS)
    traced = Graph.load(tmp_path / GRAPH_FILE)
    file = GgufFile(tmp_path / "tiny.gguf")
    built = graph_of(file, shape_of(file), context=POSITIONS)
    assert list(map(str, built.inputs)) == list(map(str, traced.inputs))
    assert list(map(str, built.outputs)) == list(map(str, traced.outputs))
    ours = {node.name: node for node in built.nodes}
    theirs = {node.name: node for node in traced.nodes}
    assert ours.keys() == theirs.keys()
    for name, node in ours.items():
        assert told(built, node) == told(traced, theirs[name])
        for mine, other in zip(node.input, theirs[name].input, strict=True):
            if mine in built.weights:
                tables = "rotary" in mine
                found, wanted = np.asarray(built.weights[mine]), traced.weights[other]
                np.testing.assert_allclose(found, wanted, atol=TABLE_TOLERANCE * tables, rtol=0)


def told(graph: Graph, node: NodeProto) -> tuple[Any, ...]:
    """All of a node but what its weights are called."""
    values = [None if name in graph.weights else name for name in node.input]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return node.op_type, node.domain, values, list(node.output), attributes


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        (Kind.Q4_0, "x4"),
        (Kind.Q4_1, "x4"),
        (Kind.Q8_0, "int8-b32"),
        (Kind.F16, "int8-b64"),
        (Kind.Q5_0, "gguf"),
        (Kind.Q5_1, "gguf"),
        (Kind.Q4_K, "gguf"),
        (Kind.Q5_K, "gguf"),
        (Kind.Q6_K, "gguf"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_scheme_is_the_one_that_keeps_the_integers(
    tmp_path: Path, kind: Kind, scheme: str
) -> None:
    write_model(tmp_path / "tiny.gguf", "llama", kind)
    assert exact_scheme(GgufFile(tmp_path / "tiny.gguf")).name == scheme


@pytest.mark.parametrize(
    ("others", "scheme"),
    [
        ({"token_embd": Kind.Q8_0, "output": Kind.Q8_0}, "x4"),
        ({"token_embd": Kind.Q6_K, "output": Kind.Q6_K}, "gguf"),
        ({"attn_v": Kind.Q6_K}, "gguf"),
        ({"attn_v": Kind.F16}, "gguf"),
    ],
)
def test_one_type_alone_decides_nothing(
    tmp_path: Path, others: dict[str, Kind], scheme: str
) -> None:
    write_model(tmp_path / "tiny.gguf", "llama", Kind.Q4_0, others=others)
    assert exact_scheme(GgufFile(tmp_path / "tiny.gguf")).name == scheme


def test_eight_bit_integers_are_the_files_own(tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.gguf", "qwen2", Kind.Q8_0)
    make_reference(GgufFile(tmp_path / "tiny.gguf"), tmp_path, max_context=POSITIONS)
    graph = Graph.load(tmp_path / GRAPH_FILE)
    quantise(graph, SCHEMES["int8-b32"])
    layer = model.model.layers[0].self_attn
    parts = [part.weight.detach().numpy() for part in (layer.q_proj, layer.k_proj, layer.v_proj)]
    table = model.model.embed_tokens.weight.detach().numpy()
    packed = np.concatenate(parts)
    for name, weight in (
        ("/model/layers.0/self_attn/q_proj+2", packed),
        ("model.embed_tokens.weight", table),
    ):
        blocks = quantize(weight, Kind.Q8_0).reshape(len(weight), -1, 34)
        integers = blocks[..., 2:].view(np.int8).astype(int) + SYMMETRIC_ZERO
        np.testing.assert_array_equal(graph.weights[f"{name}/q"], integers)
        scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0]
        np.testing.assert_array_equal(graph.weights[f"{name}/scales"], scales.astype(np.float32))


def test_four_bit_blocks_around_zero_need_no_offsets(tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.gguf", "llama", Kind.Q4_0)
    make_reference(GgufFile(tmp_path / "tiny.gguf"), tmp_path, max_context=POSITIONS)
    record = ReferenceRecord.read(tmp_path)
    graph = Graph.load(tmp_path / GRAPH_FILE)
    quantise_x4(graph, SCHEMES["x4"])
    assert not [name for name in graph.weights if name.endswith("/offsets")]
    q = graph.weights["/model/layers.1/mlp/down_proj/MatMul/q"]
    scales = graph.weights["/model/layers.1/mlp/down_proj/MatMul/scales"]
    integers = np.stack([q & 15, q >> 4], -1).reshape(*scales.shape, 32).astype(np.float32) - 8
    weight = (integers * scales[..., None]).reshape(len(q), -1)
    down = model.model.layers[1].mlp.down_proj.weight.detach().numpy()
    np.testing.assert_array_equal(weight, down)
    assert (scales < 0).any()
    (tmp_path / "x4").mkdir()
    graph.save(tmp_path / "x4" / GRAPH_FILE)
    runners = [
        Runner(folder / GRAPH_FILE, io=record.io, kv=record.kv, capacity=POSITIONS)
        for folder in (tmp_path, tmp_path / "x4")
    ]
    wanted, got = (runner.log_probs(IDS) for runner in runners)
    assert 0 < np.abs(wanted - got).mean() < 0.02
    if native.why_not() is None:
        assert write_native(tmp_path / "x4" / GRAPH_FILE, tmp_path / "x4" / NATIVE_FILE) is None
        again = native_record(record)
        runner = Runner(
            tmp_path / "x4" / NATIVE_FILE,
            io=again.io,
            kv=again.kv,
            capacity=POSITIONS,
            requires=(native.REQUIREMENT,),
        )
        assert 0 < np.abs(wanted - runner.log_probs(IDS)).mean() < 0.03


def test_a_files_head_may_lie_off_the_grid(tmp_path: Path) -> None:
    write_model(tmp_path / "tiny.gguf", "llama", Kind.Q4_1)
    make_reference(GgufFile(tmp_path / "tiny.gguf"), tmp_path, max_context=POSITIONS)
    graph = Graph.load(tmp_path / GRAPH_FILE)
    random = np.random.default_rng(3)
    shape = graph.weights["lm_head.weight"].shape
    graph.weights["lm_head.weight"] = random.standard_normal(shape).astype(np.float32)
    quantise_x4(graph, SCHEMES["x4"])
    head = next(node for node in graph.nodes if node.name == "/lm_head/MatMul")
    assert helper.get_node_attr_value(head, "bits") == 8


BLOCKED = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
from exporters.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
HEAVY = ("torch", "transformers", "optimum", "accelerate", "safetensors", "huggingface_hub", "peft")


def without_torch(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, where nothing of PyTorch's house can be imported."""
    places = {"NSEDGE_CACHE": str(home / "cache"), "NSEDGE_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=HEAVY), *arguments],
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bundle_is_made_and_verified_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "Tiny Model.gguf"
    write_model(path, "qwen2", Kind.Q8_0, general__license="mit", general__name="Tiny")
    made = without_torch(tmp_path, "import-gguf", str(path), "--context", "256", "--json")
    assert made.returncode == 0, made.stderr
    result = json.loads(made.stdout)
    assert result["difference_from_torch"] is None
    bundle = Bundle.open(tmp_path / "bundles" / "tiny-model")
    manifest = bundle.manifest
    assert str(bundle.path) == result["bundle"]
    assert manifest.context_length == 256
    assert manifest.provenance.source == "Tiny"
    assert manifest.provenance.architecture == "Qwen2ForCausalLM"
    assert manifest.provenance.licence == "MIT"
    assert manifest.provenance.parameters == GgufFile(path).parameters()
    assert set(manifest.provenance.exporter) == {
        *("nsedge", "gguf", "onnx", "onnxruntime-gpu", "tokenizers")
    }
    assert {variant.scheme for variant in manifest.variants} == {"int8-b32"}
    verdict = without_torch(tmp_path, "verify", str(bundle.path), "--json")
    assert json.loads(verdict.stdout)["passed"] is True
    again = without_torch(tmp_path, "import-gguf", str(path), "--context", "256", "--json")
    assert json.loads(again.stdout)["made"] is False
