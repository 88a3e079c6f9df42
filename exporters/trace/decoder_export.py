"""Drive Optimum: a causal LM in, the raw ONNX graph around GroupQueryAttention out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.onnx.config import TextDecoderOnnxConfig
from optimum.exporters.onnx.convert import onnx_export_from_model
from optimum.exporters.onnx.model_patcher import ModelPatcher
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedTextConfigWithGQA

from exporters.trace.decoder_trace import Pairs, Rotary, RotaryUnfit, traceable
from exporters.trace.quiet import quiet
from nsedge.bundle.causal_lm import GraphIo, KvLayout

TASK = "text-generation"
OPSET = 18
RAW_FILE = "model.onnx"
TRACE_QUERIES, TRACE_PAST, TRACE_CAPACITY = 5, 7, 24


class _DecoderPatcher:
    """Mixed in over the architecture's own patcher: its tracing fixes stay, ours come on top."""

    _model: Any
    real_config: Any

    def __enter__(self) -> Any:
        true_forward = self._model.forward
        super().__enter__()  # type: ignore[misc]
        self._undo = ExitStack()
        config = self.real_config
        try:
            trace = self._undo.enter_context(
                traceable(
                    self._model,
                    true_forward,
                    layers=config.kv.layers,
                    rotary=config.rotary,
                    positions=config.positions,
                )
            )
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        self._model.forward = trace.forward
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._undo.close()
        super().__exit__(kind, error, trace)  # type: ignore[misc]


class _PlainPatcher(_DecoderPatcher, ModelPatcher):
    """For architectures that need no tracing fixes."""


class DecoderOnnxConfig(TextDecoderOnnxConfig):
    """What the graph takes and gives: the names of `GraphIo`."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfigWithGQA
    DEFAULT_ONNX_OPSET = OPSET
    _MODEL_PATCHER = _PlainPatcher

    def __init__(
        self, config: Any, *, io: GraphIo, kv: KvLayout, rotary: Rotary, positions: int
    ) -> None:
        super().__init__(config, task=TASK, use_past=True, use_past_in_inputs=True)
        self.io = io
        self.kv = kv
        self.rotary = rotary
        self.positions = positions

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        io = self.io
        named: dict[str, dict[int, str]] = {io.input_ids: {0: "batch", 1: "queries"}}
        named[io.seqlens_k] = {0: "batch"}
        named[io.total_sequence_length] = {}
        named[io.kept_positions] = {0: "kept"}
        named.update(self._cache(io.past_key, io.past_value))
        if io.position_ids is not None:
            named[io.position_ids] = {0: "batch", 1: "queries"}
        return named

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        io = self.io
        logits: dict[str, dict[int, str]] = {io.logits: {0: "batch", 1: "kept"}}
        return logits | self._cache(io.present_key, io.present_value)

    def _cache(self, key: str, value: str) -> dict[str, dict[int, str]]:
        axes = {0: "batch", 2: "capacity"}
        names = [n.format(layer=i) for i in range(self.kv.layers) for n in (key, value)]
        return {name: dict(axes) for name in names}

    def generate_dummy_inputs(self, framework: str = "pt", **unused: Any) -> dict[str, Any]:
        """Five new tokens of one row after seven old ones: every axis has a size of its own."""
        length, past = TRACE_QUERIES, TRACE_PAST
        made: dict[str, Any] = {
            "input_ids": torch.arange(length)[None] % self._config.vocab_size,
            "seqlens_k": torch.tensor([past + length - 1], dtype=torch.int32),
            "total_sequence_length": torch.tensor(past + length, dtype=torch.int32),
            "logits_to_keep": torch.arange(length - 1),
            "past_key_values": self._dummy_cache(),
        }
        if self.io.position_ids is not None:
            made["position_ids"] = torch.arange(past, past + length)[None]
        return made

    def _dummy_cache(self) -> Pairs:
        shape = (1, self.kv.heads, TRACE_CAPACITY, self.kv.head_dim)
        return [(torch.zeros(shape), torch.zeros(shape)) for _ in range(self.kv.layers)]

    def fix_dynamic_axes(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to find out by running the graph: `inputs` and `outputs` name every axis."""

    def flatten_output_collection_property(self, name: str, field: Any) -> dict[str, Any]:
        if name not in ("past_key_values", "present"):
            return super().flatten_output_collection_property(name, field)
        io = self.io
        past = name == "past_key_values"
        key = io.past_key if past else io.present_key
        value = io.past_value if past else io.present_value
        return {
            pattern.format(layer=layer): tensor
            for layer, pair in enumerate(field)
            for pattern, tensor in zip((key, value), pair, strict=True)
        }


def export_raw(model: Any, out: Path, *, kv: KvLayout, positions: int) -> GraphIo:
    """Write `RAW_FILE` to `out`; the rotary embedding goes into the operator where it fits.

    Raises:
        Refused: the model's attention cannot be exchanged.
    """
    try:
        _export(model, out, GraphIo(), kv, Rotary.INSIDE, positions)
        return GraphIo()
    except RotaryUnfit:
        io = GraphIo(position_ids="position_ids")
        _export(model, out, io, kv, Rotary.GRAPH, positions)
        return io


def _export(
    model: Any, out: Path, io: GraphIo, kv: KvLayout, rotary: Rotary, positions: int
) -> None:
    config = _config_class(model)(model.config, io=io, kv=kv, rotary=rotary, positions=positions)
    with quiet():
        onnx_export_from_model(
            model,
            out,
            task=f"{TASK}-with-past",
            custom_onnx_configs={"model": config},
            do_validation=False,
            no_post_process=True,  # it ties weights, but not beyond 2 GiB: the clean-up does
            opset=OPSET,
            device="cpu",
        )


def _config_class(model: Any) -> type[DecoderOnnxConfig]:
    """Ours, over what Optimum knows of the architecture, if it does."""
    known = TasksManager._SUPPORTED_MODEL_TYPE.get(model.config.model_type, {}).get("onnx", {})
    maker = known.get(TASK)
    if maker is None:
        return DecoderOnnxConfig
    registered = maker.func
    patcher = registered._MODEL_PATCHER
    if patcher is not ModelPatcher:
        patcher = type("DecoderPatcher", (_DecoderPatcher, patcher), {})
    else:
        patcher = _PlainPatcher
    attributes = {
        "_MODEL_PATCHER": patcher,
        "NORMALIZED_CONFIG_CLASS": registered.NORMALIZED_CONFIG_CLASS,
    }
    return type("ArchitectureOnnxConfig", (DecoderOnnxConfig,), attributes)
