"""A base's graph with inputs for adapters: every product W x becomes W x + ((x A) * mask) B.

Where each module's part of a packed product lies is read from the standard graph; its form on the
daemon's own operators has the same nodes by name. Neither's weights are touched: the new graph
reads them from the base's own file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from exporters.errors import Refused
from exporters.graph.graph import MICROSOFT, attribute
from exporters.graph.native import MATMUL as OWN_MATMUL
from exporters.graph.pack import ATTENTION
from nsedge.bundle.adapter import A_INPUT, B_INPUT, MASK_INPUT
from nsedge.bundle.causal_lm import GraphIo
from nsedge.bundle.sites import Part, Site

PRODUCTS = frozenset({"MatMulNBits", "MatMul", OWN_MATMUL})
QUERY, KEY, VALUE = "q_proj", "k_proj", "v_proj"
LAYER = re.compile(r"\.\d+(?=\.)")
SUFFIX = re.compile(r"/(MatMul|Add|Gemm)(_\d+)?(_output_0)?$")


def find_sites(graph: Path) -> tuple[Site, ...]:
    """The products of the standard graph at `graph` that an adapter may add to.

    Raises:
        Refused: there are none.
    """
    reading = _Reading(onnx.load(graph, load_external_data=False))
    sites = [site for node in reading.nodes if (site := reading.site(node)) is not None]
    if not sites:
        raise Refused(f"{graph} has no product that an adapter could add to")
    return tuple(sites)


def with_adapters(graph: Path, sites: tuple[Site, ...], io: GraphIo) -> bytes:
    """The graph at `graph`, standard or native, with inputs for adapters at `sites`.

    Raises:
        Refused: a site is missing in it.
    """
    model = onnx.load(graph, load_external_data=False)
    adding = _Adding(model, io)
    by_name = {node.name: node for node in model.graph.node if node.op_type in PRODUCTS}
    for site in sites:
        if site.name not in by_name:
            raise Refused(f"{graph} has no product {site.name}")
        adding.site(site, by_name[site.name])
    adding.finish(sites)
    return bytes(model.SerializeToString())


def data_files(graph: Path) -> frozenset[str]:
    """The files, beside `graph`, that its weights are in."""
    tensors = onnx.load(graph, load_external_data=False).graph.initializer
    return frozenset(ExternalDataInfo(t).location for t in tensors if uses_external_data(t))


class _Reading:
    """What a standard graph's products are of."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self._readers[name].append(node)

    def site(self, node: NodeProto) -> Site | None:
        """The site that `node` is; None where it is none: no product of a layer's modules."""
        shape = self._shape(node)
        parts = () if shape is None else self._parts(node, shape[1])
        if shape is None or sum(part.width for part in parts) != shape[1]:
            return None
        role = LAYER.sub("", parts[0].module)
        if role == parts[0].module:
            return None
        return Site(name=node.name, role=role, width=shape[0], parts=parts)

    def _shape(self, node: NodeProto) -> tuple[int, int] | None:
        """Widths of input and output."""
        if node.op_type == "MatMulNBits":
            return attribute(node, "K"), attribute(node, "N")
        weight = self._constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or len(weight.dims) != 2:
            return None
        return weight.dims[0], weight.dims[1]

    def _parts(self, node: NodeProto, width: int) -> tuple[Part, ...]:
        first, _, more = module_of(node.name).partition("+")
        if not more:
            return (Part(module=first, width=width),)
        reader = self._reader(node)
        if reader is not None and reader.op_type == ATTENTION:
            return _attended(first, reader, width)
        if reader is None or reader.op_type != "Split":
            return ()
        widths = numpy_helper.to_array(self._constants[reader.input[1]])
        return tuple(
            Part(module=module_of(name), width=int(own))
            for name, own in zip(reader.output, widths, strict=True)
        )

    def _reader(self, node: NodeProto) -> NodeProto | None:
        """What reads the product, once offsets and bias are added."""
        while True:
            readers = self._readers[node.output[0]]
            if len(readers) != 1:
                return None
            if readers[0].op_type != "Add":
                return readers[0]
            node = readers[0]


def _attended(first: str, attention: NodeProto, width: int) -> tuple[Part, ...]:
    """Query, key and value, in one value."""
    if not first.endswith(QUERY):
        return ()
    heads, kv_heads = attribute(attention, "num_heads"), attribute(attention, "kv_num_heads")
    head = width // (heads + 2 * kv_heads)
    widths = {QUERY: heads * head, KEY: kv_heads * head, VALUE: kv_heads * head}
    parent = first.removesuffix(QUERY)
    return tuple(Part(module=parent + name, width=own) for name, own in widths.items())


def module_of(name: str) -> str:
    """The module that a node, or its output, is named after: `/model/layers.0/mlp/up_proj/MatMul`
    is `model.layers.0.mlp.up_proj`."""
    return SUFFIX.sub("", name).strip("/").replace("/", ".")


class _Adding:
    """One model, given inputs for adapters in place."""

    def __init__(self, model: ModelProto, io: GraphIo) -> None:
        self._graph = model.graph
        self._kept_positions = io.kept_positions
        self._kept = _depending(model, io.kept_positions)
        self._kept_masks: set[str] = set()
        self._after: dict[str, list[NodeProto]] = {}

    def site(self, site: Site, node: NodeProto) -> None:
        """Add what adapters add to the product `node`."""
        name, source, new = f"adapter/{site.name}", node.input[0], []
        is_kept = source in self._kept
        if attribute(node, "gated", 0):
            new += _gate(source, name)
            source = f"{name}/gated"
        mask = self._mask(site.role, is_kept=is_kept, new=new)
        a, b = A_INPUT.format(site=site.name), B_INPUT.format(site=site.name)
        whole, node.output[0] = node.output[0], f"{name}/base"
        new += [
            helper.make_node("FusedMatMul", [source, a], [f"{name}/x"], domain=MICROSOFT, transB=1),
            helper.make_node("Mul", [f"{name}/x", mask], [f"{name}/own"]),
            helper.make_node("MatMul", [f"{name}/own", b], [f"{name}/more"]),
            helper.make_node("Add", [f"{name}/base", f"{name}/more"], [whole]),
        ]
        self._after[site.name] = new

    def finish(self, sites: tuple[Site, ...]) -> None:
        """Put the nodes in their places, and name the inputs."""
        nodes = [
            one for node in self._graph.node for one in (node, *self._after.get(node.name, ()))
        ]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        for site in sites:
            a, b = A_INPUT.format(site=site.name), B_INPUT.format(site=site.name)
            self._input(a, ["rank of " + site.role, site.width])
            self._input(b, ["rank of " + site.role, site.outputs])
        for role in dict.fromkeys(site.role for site in sites):
            shape = ["batch", "queries", f"rank of {role}"]
            self._input(MASK_INPUT.format(role=role), shape)

    def _mask(self, role: str, *, is_kept: bool, new: list[NodeProto]) -> str:
        """The role's mask; of the kept positions only, where the others are gone already."""
        name = MASK_INPUT.format(role=role)
        if not is_kept:
            return name
        kept = f"{name}/kept"
        if role not in self._kept_masks:
            self._kept_masks.add(role)
            new.append(helper.make_node("Gather", [name, self._kept_positions], [kept], axis=1))
        return kept

    def _input(self, name: str, shape: Sequence[str | int]) -> None:
        self._graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _gate(source: str, name: str) -> list[NodeProto]:
    """silu(gate) * up, which the product itself computes as it reads `source`."""
    gate, up, activated = f"{name}/gate", f"{name}/up", f"{name}/activated"
    return [
        helper.make_node("Split", [source], [gate, up], axis=-1, num_outputs=2),
        helper.make_node("QuickGelu", [gate], [activated], domain=MICROSOFT, alpha=1.0),
        helper.make_node("Mul", [activated, up], [f"{name}/gated"]),
    ]


def _depending(model: ModelProto, name: str) -> set[str]:
    """Every value that follows from the input `name`."""
    found = {name}
    for node in model.graph.node:
        if found.intersection(node.input):
            found.update(node.output)
    return found
