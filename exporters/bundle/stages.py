"""The stages between a model folder and its graphs, each kept and not made twice."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from exporters.bundle.orders import VariantOrder
from exporters.cache import Cache, Inputs, code_digest, folder_digest
from exporters.graph.records import (
    GRAPH_FILE,
    NATIVE_FILE,
    ReferenceRecord,
    Trial,
    VariantRecord,
    native_record,
)
from exporters.measure.fidelity import (
    GOLDEN_TOKENS,
    answers,
    continue_greedily,
    measure,
    run_golden,
)
from exporters.measure.runner import Runner
from exporters.model.source import Source
from exporters.model.texts import (
    CALIBRATION_FILE,
    FIDELITY_FILE,
    GOLDEN_FILE,
    PROMPTS_FILE,
    TextReader,
    calibration_passages,
    fidelity_passages,
    fidelity_text_sha256,
    golden_texts,
    prompts_of,
)
from exporters.quantise.schemes import Device, KvFormat
from exporters.trace.route import TRACED, Route, library_versions
from nsedge import native
from nsedge.bundle.manifest import GoldenPrompt, GraphIo, KvLayout, sha256_of
from nsedge.native import REQUIREMENT

if TYPE_CHECKING:
    from exporters.graph.graph import Graph
    from exporters.quantise.observe import Calibration

TEXT_ROOM = 2048
"""Tokens that the longest text may have."""

VARIANT_CODE = (
    *(
        "quantise/apply",
        "graph/graph",
        "quantise/mixed",
        "graph/native",
        "quantise/observe",
        "graph/pack",
        "quantise/blocks",
    ),
    *(
        "quantise/rotate",
        "quantise/rounding",
        "quantise/schemes",
        "model/texts",
        "quantise/w8a8",
        "quantise/x4",
    ),
)
CACHE_CODE = ("graph/graph", "graph/kv_int8", "graph/pack", "measure/runner", "model/texts")
MEASURE_CODE = ("measure/fidelity", "graph/records", "measure/runner", "model/texts")

GOLDEN_NAME = "golden.json"
ANSWERS_NAME = "answers.json"
TRIAL_NAME = "trial.json"


class ReferenceStages:
    """The fp32 graph of a model folder, and what it says."""

    def __init__(
        self, source: Source, cache: Cache, *, max_context: int, route: Route = TRACED
    ) -> None:
        self.source = source
        self.cache = cache
        self._route = route
        self._max_context = max_context
        self.inputs: Inputs = {
            "folder": folder_digest(source.folder),
            "max_context": max_context,
            "code": code_digest(*route.code),
            "libraries": library_versions(route.libraries),
        }

    @cached_property
    def reader(self) -> TextReader:
        """The model's tokenizer and template."""
        return self.source.text_reader()

    @cached_property
    def folder(self) -> Path:
        """The directory of the fp32 graph.

        Raises:
            Refused: the model cannot be exported.
        """

        def make(folder: Path) -> None:
            self._route.make(self.source, folder, self._max_context)

        title = f"Exporting {self.source.origin} to ONNX in fp32"
        return self.cache.get("reference", self.inputs, title=title, make=make)

    @property
    def record(self) -> ReferenceRecord:
        """What is known of it."""
        return ReferenceRecord.read(self.folder)

    def golden(self) -> tuple[GoldenPrompt, ...]:
        """What the fp32 graph says to the golden prompts."""

        def make(folder: Path) -> None:
            runner = runner_of(self.folder)
            texts = [(text, self.reader.encode(text)) for text in golden_texts(self.reader)]
            prompts = tuple(
                continue_greedily(runner, text, ids, self._ends())
                for text, ids in texts
                if len(ids) + GOLDEN_TOKENS <= runner.capacity
            )
            (folder / GOLDEN_NAME).write_bytes(msgspec.json.encode(prompts))

        inputs = self.measured(self.inputs, GOLDEN_FILE)
        title = "Recording golden prompts in fp32"
        kept = self.cache.get("golden", inputs, title=title, make=make)
        return msgspec.json.decode((kept / GOLDEN_NAME).read_bytes(), type=tuple[GoldenPrompt, ...])

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Those that `answers` go with."""
        return prompts_of(None)

    def answers(self) -> tuple[str, ...]:
        """What the fp32 graph says to our prompts."""

        def make(folder: Path) -> None:
            said = self.answers_of(runner_of(self.folder))
            (folder / ANSWERS_NAME).write_bytes(msgspec.json.encode(said))

        inputs = self.measured(self.inputs, PROMPTS_FILE)
        kept = self.cache.get("answers", inputs, title="Answering in fp32", make=make)
        return msgspec.json.decode((kept / ANSWERS_NAME).read_bytes(), type=tuple[str, ...])

    def answers_of(self, runner: Runner) -> tuple[str, ...]:
        """What a graph of this model says to our prompts."""
        return answers(runner, self.reader, self.prompts, self._ends())

    def measured(self, of: Inputs, *texts: Path) -> Inputs:
        """What decides figures of the graph that `of` decides, over these texts."""
        hashes = [sha256_of(text) for text in texts]
        return {"of": self.cache.key(of), "code": code_digest(*MEASURE_CODE), "text": hashes}

    def _ends(self) -> tuple[int, ...]:
        return self.source.eos_ids(self.reader)


class VariantStages:
    """One variant of a model; `Refused` names the variant that the model does not fit."""

    def __init__(self, reference: ReferenceStages, order: VariantOrder) -> None:
        self._reference = reference
        self._cache = reference.cache
        self.order = order
        inputs: dict[str, object] = {
            "reference": self._cache.key(reference.inputs),
            "scheme": order.scheme.name,
            "code": code_digest(*VARIANT_CODE),
        }
        if order.scheme.calibrated:
            inputs["calibration"] = sha256_of(CALIBRATION_FILE)
        if order.device is Device.CUDA:
            inputs |= {"device": order.device.value, "half": code_digest("graph/half")}
        if order.kv is KvFormat.INT8:
            inputs["kv_scales"] = self._cache.key(self._scales_inputs())
        self.inputs: Inputs = inputs

    @cached_property
    def folder(self) -> Path:
        """The directory of the quantised graph; that of the fp32 graph, where that is wanted.

        Raises:
            Refused: the scheme does not fit the model.
        """
        order, reference = self.order, self._reference.folder
        if order.is_reference:
            return reference
        scales = self._kv_scales() if order.kv is KvFormat.INT8 else None
        title = f"Making {order.name}"
        return self._cache.get(
            "variant", self.inputs, title=title, make=lambda folder: self._make(folder, scales)
        )

    def _make(self, folder: Path, scales: Path | None) -> None:
        from exporters.graph.graph import Graph
        from exporters.graph.half import halve
        from exporters.quantise.apply import apply_scheme

        order, record = self.order, self._reference.record
        graph = Graph.load(self._reference.folder / GRAPH_FILE)
        kept = apply_scheme(graph, order.scheme, self._calibration())
        io, kv = None, None
        if order.device is Device.CUDA:
            kv = halve(graph, io=record.io, kv=record.kv)
            kept = {purpose: size // 2 for purpose, size in kept.items()}
        if scales is not None:
            io, kv = _cache_in_int8(graph, record, scales)
            shutil.copyfile(scales, folder / scales.name)
        graph.save(folder / GRAPH_FILE)
        nodes = Counter(node.op_type for node in graph.nodes)
        lacks = self._write_native(folder)
        VariantRecord(nodes=dict(nodes), kept_fp32=kept, io=io, kv=kv, native_lacks=lacks).write(
            folder
        )

    def _write_native(self, folder: Path) -> str | None:
        from exporters.graph.native import write_native

        if not self.order.has_native_form:
            return "the operators are the CPU's and have a cache of their own"
        return write_native(folder / GRAPH_FILE, folder / NATIVE_FILE)

    def _calibration(self) -> Calibration:
        from exporters.quantise.observe import Calibration

        record = self._reference.record
        texts = calibration_passages(self._reference.reader)
        passages = [ids[: record.context_length] for ids in texts]
        return Calibration(passages=passages, io=record.io, kv=record.kv)

    def _kv_scales(self) -> Path:
        """The file of the int8 cache's scales."""
        from exporters.graph.kv_int8 import SCALES_FILE, calibrate

        def make(folder: Path) -> None:
            passages = calibration_passages(self._reference.reader)
            np.save(folder / SCALES_FILE, calibrate(runner_of(self._reference.folder), passages))

        title = "Calibrating the int8 cache"
        kept = self._cache.get("kv-scales", self._scales_inputs(), title=title, make=make)
        return kept / SCALES_FILE

    def _scales_inputs(self) -> Inputs:
        code = code_digest(*CACHE_CODE)
        text = sha256_of(CALIBRATION_FILE)
        return {"of": self._cache.key(self._reference.inputs), "code": code, "text": text}

    @property
    def record(self) -> ReferenceRecord:
        """That of the fp32 graph, with the variant's own cache and names where it has some."""
        record = self._reference.record
        if self.order.is_reference:
            return record
        own = VariantRecord.read(self.folder)
        return msgspec.structs.replace(record, io=own.io or record.io, kv=own.kv or record.kv)

    def native_lacks(self) -> str | None:
        """Why there is no native form, or none that runs here; None where there is one."""
        if self.order.is_reference:
            return "the reference is left as it is"
        return VariantRecord.read(self.folder).native_lacks or native.why_not()

    def trial(self) -> Trial:
        """How near the variant is to fp32, and what it says."""
        runner = partial(runner_of, self.folder, self.record)
        return self._trial(runner, self._measured(), f"Comparing {self.order.name} with fp32")

    def native_trial(self) -> Trial | None:
        """The same of the native form; None where there is none, or it does not run here."""
        if self.native_lacks() is not None:
            return None
        runner = partial(runner_of, self.folder, native_record(self.record), native=True)
        inputs: Inputs = {**self._measured(), "operators": native.source_digest()}
        title = f"Comparing the native form of {self.order.name} with fp32"
        return self._trial(runner, inputs, title)

    def _trial(self, opened: Callable[[], Runner], inputs: Inputs, title: str) -> Trial:
        def make(folder: Path) -> None:
            reference = self._reference
            passages = fidelity_passages(reference.reader)
            runner = opened()
            text = fidelity_text_sha256()
            exact = runner_of(reference.folder)
            trial = Trial(
                fidelity=measure(exact, runner, passages, text_sha256=text),
                golden=run_golden(runner, reference.golden()),
                answers=reference.answers_of(runner),
            )
            (folder / TRIAL_NAME).write_bytes(msgspec.json.encode(trial))

        kept = self._cache.get("trial", inputs, title=title, make=make)
        return msgspec.json.decode((kept / TRIAL_NAME).read_bytes(), type=Trial)

    def _measured(self) -> Inputs:
        of = self._reference.inputs if self.order.is_reference else self.inputs
        return self._reference.measured(of, FIDELITY_FILE, GOLDEN_FILE, PROMPTS_FILE)


def _cache_in_int8(graph: Graph, record: ReferenceRecord, scales: Path) -> tuple[GraphIo, KvLayout]:
    from exporters.graph.kv_int8 import cache_in_int8

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
