"""The fp32 graphs of a model of pictures, traced one by one and held to diffusers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from exporters.diffusion.preview import preview_of
from exporters.diffusion.records import (
    DECODER_FILE,
    DENOISER_FILE,
    ENCODER_FILE,
    TEXT_FILES,
    TOKENIZER_FILES,
    DiffusionRecord,
)
from exporters.diffusion.towers import Decoder, Denoiser, Encoder, TextTower, traceable
from exporters.errors import ExportError, Refused
from exporters.graph.graph import OPSET, Graph
from exporters.model.diffusion import DiffusionShape, read_diffusion_shape, variant_of
from exporters.trace.clean import clean_encoder
from exporters.trace.quiet import quiet
from nsedge.bundle.diffusion import DecoderIo, DenoiserIo, EncoderIo, PromptReading, TextEncoderIo
from nsedge.runtime.graph.session import open_session

RAW_FILE = "raw.onnx"
MAX_DIFFERENCE = 1e-4
"""From diffusers, of any number, as a share of the greatest."""
CHECK_SEED = 20240229
CHECKED_SIDES = ((1, 1), (2, 1))
"""Height and width of what is compared, in the least sizes that the model takes."""
AXES = {
    "sample": {0: "rows", 2: "height", 3: "width"},
    "timestep": {0: "rows"},
    "states": {0: "rows", 1: "tokens"},
    "pooled": {0: "rows"},
    "sizes": {0: "rows"},
    "output": {0: "rows", 2: "height", 3: "width"},
    "latents": {0: "rows", 2: "height", 3: "width"},
    "pixels": {0: "rows", 2: "pixel_height", 3: "pixel_width"},
    "mean": {0: "rows", 2: "height", 3: "width"},
    "deviation": {0: "rows", 2: "height", 3: "width"},
    "input_ids": {0: "rows"},
}

Given = dict[str, torch.Tensor]
Outputs = list[NDArray[np.float32]]


def make_reference(folder: Path, out: Path) -> None:
    """Write the fp32 graphs of a diffusers folder, its tokenizers and `DiffusionRecord` to the
    directory `out`.

    Raises:
        Refused: a model cannot be loaded or traced.
        ExportError: a graph does not compute what diffusers does.
    """
    shape = read_diffusion_shape(folder)
    differences: dict[str, float] = {}
    towers = [
        _text_encoder(folder, out, shape, number, differences)
        for number in range(len(shape.family.text_encoders))
    ]
    ios = tuple(io for io, _ in towers)
    denoiser_io = _denoiser(folder, out, shape, differences)
    _autoencoder(folder, out, shape, differences)
    for name, difference in differences.items():
        if not difference <= MAX_DIFFERENCE:
            raise ExportError(f"the graph of {name} differs from diffusers by {difference:.2g}")
    DiffusionRecord(
        text_ios=ios,
        denoiser_io=denoiser_io,
        prompts=tuple(reading for _, reading in towers),
        latent_channels=shape.latent_channels,
        latent_factor=shape.latent_factor,
        scaling=shape.scaling,
        shift=shape.shift,
        differences=differences,
        preview=preview_of(
            out,
            factor=shape.latent_factor,
            step=shape.size_step,
            scaling=shape.scaling,
            shift=shape.shift,
        ),
    ).write(out)


def load_part(folder: Path, part: str, kind: Any) -> Any:
    """One of the models of a diffusers folder in PyTorch, every weight its own.

    Raises:
        Refused: it cannot be built, or not of these weights.
    """
    told: dict[str, Any] = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
    if kind.__module__.startswith("transformers"):
        told = {"dtype": torch.float32, "attn_implementation": "eager"}
    try:
        with quiet():
            model, loaded = kind.from_pretrained(
                folder / part,
                **told,
                variant=variant_of(folder, part),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # whatever the libraries raise for what does not fit
        told_of = " ".join(str(error).split())[:300]
        raise Refused(f"{folder / part} cannot be loaded: {told_of}") from error
    missing = [key for key in loaded["missing_keys"] if not key.endswith("position_ids")]
    if missing or loaded.get("mismatched_keys"):
        raise Refused(f"{folder / part}: no weights for {', '.join(map(str, missing[:3]))}")
    return model.eval().requires_grad_(False)


def _text_encoder(
    folder: Path, out: Path, shape: DiffusionShape, number: int, differences: dict[str, float]
) -> tuple[TextEncoderIo, PromptReading]:
    part = shape.family.text_encoders[number]
    is_last = number == len(shape.family.text_encoders) - 1
    has_vector = shape.family.pooled and is_last
    kind = transformers.CLIPTextModelWithProjection if has_vector else transformers.CLIPTextModel
    model = load_part(folder, part, kind)
    reading = _tokenizer(folder, out, shape.tokenizers[number], number, model.config)
    io = TextEncoderIo(pooled="pooled" if has_vector else None)
    tower = TextTower(model, pooled=shape.family.pooled, vector=has_vector)
    random = np.random.default_rng(CHECK_SEED)
    ids = random.integers(0, reading.vocab_size, (2, reading.context_length))
    ids[:, 0], ids[:, -1], ids[1, 7:] = reading.begin_id, reading.end_id, reading.end_id
    differences[part] = _exported(
        tower,
        [{io.input_ids: torch.from_numpy(ids)}, {io.input_ids: torch.from_numpy(ids[1:])}],
        [io.states, *([io.pooled] if io.pooled else [])],
        out / TEXT_FILES[number],
    )
    return io, reading


def _tokenizer(folder: Path, out: Path, part: str, number: int, config: Any) -> PromptReading:
    """Write a tokenizer's file; how prompts are read with it."""
    try:
        with quiet():
            tokenizer = transformers.CLIPTokenizerFast.from_pretrained(
                folder / part, local_files_only=True
            )
    except Exception as error:  # whatever the libraries raise for what does not fit
        told = " ".join(str(error).split())[:300]
        raise Refused(f"{folder / part} cannot be loaded: {told}") from error
    file = TOKENIZER_FILES[number]
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.save(str(out / file))
    return PromptReading(
        tokenizer=file,
        context_length=min(config.max_position_embeddings, tokenizer.model_max_length),
        vocab_size=config.vocab_size,
        begin_id=tokenizer.bos_token_id,
        end_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id,
    )


def _denoiser(
    folder: Path, out: Path, shape: DiffusionShape, differences: dict[str, float]
) -> DenoiserIo:
    model = load_part(folder, "unet", diffusers.UNet2DConditionModel)
    is_told = shape.family.pooled
    io = DenoiserIo(pooled="pooled" if is_told else None, sizes="sizes" if is_told else None)
    config, step = model.config, shape.size_step // shape.latent_factor
    random = torch.Generator().manual_seed(CHECK_SEED)
    examples: list[Given] = []
    for rows, tokens, (high, wide) in zip((2, 1), (77, 154), CHECKED_SIDES, strict=True):
        given = {
            io.sample: torch.randn(
                (rows, config.in_channels, high * step, wide * step), generator=random
            ),
            io.timestep: torch.tensor([999.0, 17.5])[:rows],
            io.states: torch.randn((rows, tokens, config.cross_attention_dim), generator=random),
        }
        if io.pooled and io.sizes:
            sides = (
                config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            )
            given[io.pooled] = torch.randn((rows, sides), generator=random)
            given[io.sizes] = torch.tensor([[512.0, 640.0, 0.0, 0.0, 512.0, 640.0]] * rows)
        examples.append(given)
    differences["unet"] = _exported(Denoiser(model), examples, [io.output], out / DENOISER_FILE)
    return io


def _autoencoder(
    folder: Path, out: Path, shape: DiffusionShape, differences: dict[str, float]
) -> None:
    model = load_part(folder, "vae", diffusers.AutoencoderKL)
    step, factor = shape.size_step // shape.latent_factor, shape.latent_factor
    random = torch.Generator().manual_seed(CHECK_SEED)
    decoder, encoder = DecoderIo(), EncoderIo()
    latents, pixels = [], []
    for high, wide in CHECKED_SIDES:
        size = (1, shape.latent_channels, high * step, wide * step)
        latents.append({decoder.latents: torch.randn(size, generator=random)})
        size = (1, 3, high * step * factor, wide * step * factor)
        pixels.append({encoder.pixels: torch.rand(size, generator=random) * 2 - 1})
    differences["vae decoder"] = _exported(
        Decoder(model), latents, [decoder.pixels], out / DECODER_FILE
    )
    differences["vae encoder"] = _exported(
        Encoder(model), pixels, [encoder.mean, encoder.deviation], out / ENCODER_FILE
    )


def _exported(
    tower: torch.nn.Module, examples: Sequence[Given], outputs: Sequence[str], path: Path
) -> float:
    """Write the graph of a model; the greatest difference from it in what comes of `examples`, of
    which the first is traced.

    Raises:
        Refused: the model cannot be traced.
    """
    with torch.no_grad(), quiet():
        wanted = [_outputs(tower(**given)) for given in examples]
    inner: Any = tower.model
    try:
        with traceable(inner):
            trace(tower, examples[0], outputs).save(path)
    except Exception as error:  # whatever a model's own code raises while it is traced
        told = " ".join(str(error).split())[:300]
        raise Refused(
            f"{type(inner).__name__} cannot be traced: {type(error).__name__}: {told}"
        ) from error
    session = open_session(path, "cpu", 0)
    found = [
        session.run(list(outputs), {name: one.numpy() for name, one in given.items()})
        for given in examples
    ]
    return max(_difference(a, b) for a, b in zip(found, wanted, strict=True))


def trace(tower: torch.nn.Module, given: Given, outputs: Sequence[str]) -> Graph:
    """The graph of a model; `given` is an example.

    Raises:
        Exception: whatever the model's own code raises while it is traced.
    """
    raw = Path(tempfile.mkdtemp())
    try:
        with torch.no_grad(), quiet():
            torch.onnx.export(
                tower,
                tuple(given.values()),
                str(raw / RAW_FILE),
                input_names=list(given),
                output_names=list(outputs),
                dynamic_axes={name: AXES[name] for name in (*given, *outputs)},
                opset_version=OPSET,
                dynamo=False,
            )
        graph = Graph.load(raw / RAW_FILE)
        graph.weights = {name: np.array(array) for name, array in graph.weights.items()}
    finally:
        shutil.rmtree(raw)
    clean_encoder(graph)
    return graph


def _outputs(made: Any) -> Outputs:
    return [one.numpy() for one in (made if isinstance(made, tuple) else (made,))]


def _difference(found: Outputs, wanted: Outputs) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)) for a, b in pairs)
