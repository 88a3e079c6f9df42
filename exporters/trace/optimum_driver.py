"""Drive Optimum, which knows what to change in an architecture's code before it is traced."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from optimum.exporters.onnx.config import TextDecoderOnnxConfig
from optimum.exporters.onnx.convert import onnx_export_from_model
from optimum.exporters.onnx.model_patcher import ModelPatcher
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedTextConfigWithGQA

from exporters.trace.decoder_trace import Rotary, traceable
from exporters.trace.signature import RAW_FILE, Axes, Signature

TASK = "text-generation"


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
                    layers=config.signature.kv.layers,
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
    """What the graph takes and gives, as Optimum wants to be told."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfigWithGQA
    _MODEL_PATCHER = _PlainPatcher

    def __init__(
        self, config: Any, *, signature: Signature, rotary: Rotary, positions: int
    ) -> None:
        super().__init__(config, task=TASK, use_past=True, use_past_in_inputs=True)
        self.signature = signature
        self.rotary = rotary
        self.positions = positions

    @property
    def inputs(self) -> Axes:
        return self.signature.inputs()

    @property
    def outputs(self) -> Axes:
        return self.signature.outputs()

    def generate_dummy_inputs(self, framework: str = "pt", **unused: Any) -> dict[str, Any]:
        return self.signature.example(self._config.vocab_size)

    def fix_dynamic_axes(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to find out by running the graph: `inputs` and `outputs` name every axis."""

    def flatten_output_collection_property(self, name: str, field: Any) -> dict[str, Any]:
        if name not in ("past_key_values", "present"):
            return super().flatten_output_collection_property(name, field)
        io = self.signature.io
        past = name == "past_key_values"
        key = io.past_key if past else io.present_key
        value = io.past_value if past else io.present_value
        return {
            pattern.format(layer=layer): tensor
            for layer, pair in enumerate(field)
            for pattern, tensor in zip((key, value), pair, strict=True)
        }


def export(
    model: Any, out: Path, signature: Signature, *, rotary: Rotary, positions: int, opset: int
) -> None:
    """Write the raw graph of `model` to `RAW_FILE` in `out`.

    Raises:
        Refused: the model's attention cannot be exchanged.
        RotaryUnfit: `Rotary.INSIDE` does not suit it.
    """
    make = _config_class(model)
    config = make(model.config, signature=signature, rotary=rotary, positions=positions)
    onnx_export_from_model(
        model,
        out,
        task=f"{TASK}-with-past",
        custom_onnx_configs={RAW_FILE.removesuffix(".onnx"): config},
        do_validation=False,
        no_post_process=True,  # it ties weights, but not beyond 2 GiB: the clean-up does
        opset=opset,
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
