"""From a model folder to a bundle, stage by stage; each stage is kept and not made twice."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from exporters.cache import Cache, Inputs, code_digest, folder_digest
from exporters.errors import Refused
from exporters.fidelity import GOLDEN_TOKENS, continue_greedily, measure
from exporters.package import Parts, check_place, variant_digest, write_bundle
from exporters.records import (
    GRAPH_FILE,
    NATIVE_FILE,
    ReferenceRecord,
    VariantRecord,
    native_record,
)
from exporters.runner import Runner
from exporters.schemes import REFERENCE_SCHEME, Device, KvFormat, Method, Scheme
from exporters.source import Source
from exporters.texts import (
    CALIBRATION_FILE,
    FIDELITY_FILE,
    GOLDEN_FILE,
    calibration_passages,
    fidelity_passages,
    golden_texts,
)
from nsedge import native
from nsedge.bundle import Bundle, Fidelity, GoldenPrompt, GraphIo, KvLayout, sha256_of
from nsedge.native import REQUIREMENT

if TYPE_CHECKING:
    from exporters.graph import Graph
    from exporters.observe import Calibration

MAX_CONTEXT = 32768
"""Longest context that a graph's rotary tables hold, unless asked otherwise."""
LIBRARIES = ("torch", "optimum-onnx", "transformers", "onnx", "onnxruntime-gpu", "tokenizers")
"""What a traced graph depends on."""
LINKS = "reference-of"
TEXT_ROOM = 2048
"""Tokens that the longest text may have."""

GRAPH_CODE = (
    *("decoder_export", "decoder_trace", "operators", "reference"),
    *("clean", "fold", "graph", "pack", "runner", "source"),
)
VARIANT_CODE = (
    *("apply", "graph", "mixed", "native", "observe", "pack", "quantise"),
    *("rotate", "rounding", "schemes", "texts", "w8a8", "x4"),
)
CACHE_CODE = ("graph", "kv_int8", "pack", "runner", "texts")
MEASURE_CODE = ("fidelity", "runner", "texts")

GOLDEN_NAME = "golden.json"
FIDELITY_NAME = "fidelity.json"


@dataclass(frozen=True, kw_only=True)
class Route:
    """How the fp32 graph comes about.

    `make` writes it to a directory for a longest context; `code` (modules of this package) and
    `libraries` are all that its result depends on besides the source.
    """

    make: Callable[[Source, Path, int], None]
    code: tuple[str, ...]
    libraries: tuple[str, ...]


def _trace(source: Source, folder: Path, max_context: int) -> None:
    from exporters.reference import make_reference  # torch: only when there is work

    make_reference(source, folder, max_context=max_context)


TRACED = Route(make=_trace, code=GRAPH_CODE, libraries=LIBRARIES)
"""Through PyTorch and Optimum."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to make: which model, under which name, in which scheme, up to which context."""

    source: Source
    name: str
    scheme: Scheme
    kv: KvFormat = KvFormat.FLOAT32
    device: Device = Device.CPU
    max_context: int = MAX_CONTEXT
    route: Route = TRACED

    def check(self) -> None:
        """Refuse what does not go together, before any work.

        Raises:
            Refused: with the reason.
            ExportError: the source is incomplete.
        """
        self.source.check()
        if self.scheme.method is Method.ROTATED and self.kv is KvFormat.INT8:
            raise Refused(
                f"--scheme {self.scheme.name} turns the values that --kv int8 has scales for;"
                " choose one of them"
            )
        if self.device is Device.CUDA and not self.scheme.runs_on_gpu:
            raise Refused(f"--scheme {self.scheme.name} is for the CPU; --device cuda takes blocks")
        if self.device is Device.CUDA and self.kv is KvFormat.INT8:
            raise Refused("--device cuda keeps its cache in float16; --kv int8 is for the CPU")

    @property
    def is_reference(self) -> bool:
        """Whether the fp32 graph itself is wanted."""
        fp32 = self.scheme.name == REFERENCE_SCHEME and self.kv is KvFormat.FLOAT32
        return fp32 and self.device is Device.CPU

    @property
    def has_native_form(self) -> bool:
        """Whether the daemon's own operators, which are the CPU's, can take the graph's place."""
        return self.kv is KvFormat.FLOAT32 and self.device is Device.CPU


class Stages:
    """The stages of one order, each from the cache where it was made before."""

    def __init__(self, order: Order, cache: Cache) -> None:
        self._order = order
        self._cache = cache
        self._reference_inputs: Inputs = {
            "folder": folder_digest(order.source.folder),
            "max_context": order.max_context,
            "code": code_digest(*order.route.code),
            "libraries": library_versions(order.route.libraries),
        }
        self._variant_inputs: Inputs = {
            "reference": cache.key(self._reference_inputs),
            "scheme": order.scheme.name,
            "code": code_digest(*VARIANT_CODE),
        }
        if order.scheme.calibrated:
            text = sha256_of(CALIBRATION_FILE)
            self._variant_inputs = {**self._variant_inputs, "calibration": text}
        if order.device is Device.CUDA:
            half = {"device": order.device.value, "half": code_digest("half")}
            self._variant_inputs = {**self._variant_inputs, **half}
        if order.kv is KvFormat.INT8:
            scales = cache.key(self._scales_inputs())
            self._variant_inputs = {**self._variant_inputs, "kv_scales": scales}

    def reference(self) -> Path:
        """The directory of the fp32 graph."""

        order = self._order

        def make(folder: Path) -> None:
            order.route.make(order.source, folder, order.max_context)

        title = f"Exporting {order.name} to ONNX in fp32"
        return self._cache.get("reference", self._reference_inputs, title=title, make=make)

    def variant(self, reference: Path) -> Path:
        """The directory of the quantised graph; `reference` itself, where that is wanted."""
        order = self._order
        if order.is_reference:
            return reference
        scales = self._kv_scales(reference) if order.kv is KvFormat.INT8 else None

        def make(folder: Path) -> None:
            from exporters.apply import apply_scheme
            from exporters.graph import Graph
            from exporters.half import halve
            from exporters.native import write_native

            graph = Graph.load(reference / GRAPH_FILE)
            kept = apply_scheme(graph, order.scheme, self._calibration(reference))
            io, kv, record = None, None, ReferenceRecord.read(reference)
            if order.device is Device.CUDA:
                kv = halve(graph, io=record.io, kv=record.kv)
                kept = {purpose: size // 2 for purpose, size in kept.items()}
            if scales is not None:
                io, kv = _cache_in_int8(graph, record, scales)
                shutil.copyfile(scales, folder / scales.name)
            graph.save(folder / GRAPH_FILE)
            nodes = Counter(node.op_type for node in graph.nodes)
            native = order.has_native_form and write_native(
                folder / GRAPH_FILE, folder / NATIVE_FILE
            )
            VariantRecord(nodes=dict(nodes), kept_fp32=kept, io=io, kv=kv, native=native).write(
                folder
            )

        title = f"Quantising to {order.scheme.name}, cache in {order.kv}"
        return self._cache.get("variant", self._variant_inputs, title=title, make=make)

    def _calibration(self, reference: Path) -> Calibration:
        from exporters.observe import Calibration

        record = ReferenceRecord.read(reference)
        texts = calibration_passages(self._order.source.text_reader())
        passages = [ids[: record.context_length] for ids in texts]
        return Calibration(passages=passages, io=record.io, kv=record.kv)

    def _kv_scales(self, reference: Path) -> Path:
        """The file of the int8 cache's scales."""
        from exporters.kv_int8 import SCALES_FILE, calibrate

        def make(folder: Path) -> None:
            passages = calibration_passages(self._order.source.text_reader())
            np.save(folder / SCALES_FILE, calibrate(runner_of(reference), passages))

        title = "Calibrating the int8 cache"
        kept = self._cache.get("kv-scales", self._scales_inputs(), title=title, make=make)
        return kept / SCALES_FILE

    def _scales_inputs(self) -> Inputs:
        code = code_digest(*CACHE_CODE)
        text = sha256_of(CALIBRATION_FILE)
        return {"of": self._cache.key(self._reference_inputs), "code": code, "text": text}

    def golden(self, reference: Path) -> tuple[GoldenPrompt, ...]:
        """What the fp32 graph says to the golden prompts."""

        def make(folder: Path) -> None:
            reader = self._order.source.text_reader()
            ends = self._order.source.eos_ids(reader)
            runner = runner_of(reference)
            prompts = tuple(
                continue_greedily(runner, text, reader.encode(text), ends)
                for text in golden_texts(reader)
                if len(reader.encode(text)) + GOLDEN_TOKENS <= runner.capacity
            )
            (folder / GOLDEN_NAME).write_bytes(msgspec.json.encode(prompts))

        inputs = self._measure_inputs(self._reference_inputs, GOLDEN_FILE)
        title = "Recording golden prompts in fp32"
        kept = self._cache.get("golden", inputs, title=title, make=make)
        return msgspec.json.decode((kept / GOLDEN_NAME).read_bytes(), type=tuple[GoldenPrompt, ...])

    def fidelity(self, reference: Path, variant: Path) -> Fidelity:
        """How near the variant is to fp32."""
        runner = partial(runner_of, variant, variant_record(reference, variant))
        inputs = self._measure_inputs(self._variant_inputs, FIDELITY_FILE)
        return self._fidelity(reference, runner, inputs, "Comparing with fp32")

    def native_fidelity(self, reference: Path, variant: Path) -> Fidelity | None:
        """How near the native form is; None where there is none, or it does not run here."""
        is_there = variant != reference and VariantRecord.read(variant).native
        if not is_there or native.why_not() is not None:
            return None
        record = native_record(variant_record(reference, variant))
        runner = partial(runner_of, variant, record, native=True)
        inputs: Inputs = {
            **self._measure_inputs(self._variant_inputs, FIDELITY_FILE),
            "operators": native.source_digest(),
        }
        return self._fidelity(reference, runner, inputs, "Comparing the native form with fp32")

    def _fidelity(
        self, reference: Path, runner: Callable[[], Runner], inputs: Inputs, title: str
    ) -> Fidelity:
        def make(folder: Path) -> None:
            passages = fidelity_passages(self._order.source.text_reader())
            result = measure(runner_of(reference), runner(), passages)
            (folder / FIDELITY_NAME).write_bytes(msgspec.json.encode(result))

        kept = self._cache.get("fidelity", inputs, title=title, make=make)
        return msgspec.json.decode((kept / FIDELITY_NAME).read_bytes(), type=Fidelity)

    def _measure_inputs(self, of: Inputs, text: Path) -> Inputs:
        code = code_digest(*MEASURE_CODE)
        return {"of": self._cache.key(of), "code": code, "text": sha256_of(text)}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of an order. `made` is False where the same bundle was there already."""

    bundle: Path
    made: bool
    bytes: int
    nodes: int
    difference: float | None
    """Greatest one between the fp32 graph and PyTorch, in log-probability (nats), if compared."""
    kept_fp32: dict[str, int]
    """Bytes that were not quantised, by purpose."""
    fidelity: Fidelity
    native: Fidelity | None
    """Of the form on the daemon's own operators, where there is one."""


def export_bundle(order: Order, out: Path, *, cache: Cache, replace: bool = False) -> Report:
    """Make the bundle of `order` at `out`.

    A bundle of the same source is brought up to date; anything else there needs `replace`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: something else failed, or `out` is taken.
    """
    order.check()
    check_place(out, order.name, order.source.origin, replace=replace)
    stages = Stages(order, cache)
    reference = stages.reference()
    variant = stages.variant(reference)
    record = variant_record(reference, variant)
    fidelity = stages.fidelity(reference, variant)
    parts = Parts(
        name=order.name,
        scheme=order.scheme.name,
        device=order.device.value,
        source=order.source,
        record=record,
        graph=variant,
        golden=stages.golden(reference),
        fidelity=fidelity,
        native=stages.native_fidelity(reference, variant),
        libraries=library_versions(order.route.libraries),
    )
    made = write_bundle(parts, out, replace=replace)
    bundle = Bundle.open(out)
    cache.link(LINKS, variant_digest(bundle), reference)
    is_reference = variant == reference
    nodes = record.nodes if is_reference else VariantRecord.read(variant).nodes
    return Report(
        bundle=out,
        made=made,
        bytes=sum(entry.bytes for entry in bundle.manifest.files.values()),
        nodes=sum(nodes.values()),
        difference=record.difference,
        kept_fp32={} if is_reference else VariantRecord.read(variant).kept_fp32,
        fidelity=fidelity,
        native=parts.native,
    )


def variant_record(reference: Path, variant: Path) -> ReferenceRecord:
    """The record of `reference`, with the variant's own cache and names where it has some."""
    record = ReferenceRecord.read(reference)
    if variant == reference:
        return record
    own = VariantRecord.read(variant)
    return msgspec.structs.replace(record, io=own.io or record.io, kv=own.kv or record.kv)


def _cache_in_int8(graph: Graph, record: ReferenceRecord, scales: Path) -> tuple[GraphIo, KvLayout]:
    from exporters.kv_int8 import cache_in_int8

    return cache_in_int8(graph, io=record.io, kv=record.kv, scales=np.load(scales))


def runner_of(
    folder: Path, record: ReferenceRecord | None = None, *, native: bool = False
) -> Runner:
    """Open the graph in a stage's directory, or its native form, with room for the texts."""
    record = record or ReferenceRecord.read(folder)
    return Runner(
        folder / (NATIVE_FILE if native else GRAPH_FILE),
        io=record.io,
        kv=record.kv,
        capacity=min(record.context_length, TEXT_ROOM),
        requires=(REQUIREMENT,) if native else (),
    )


def library_versions(names: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Those of `names` that are installed: they decide what a bundle looks like."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
