"""The encoders of Phi-4-multimodal, in PyTorch, as they can be traced: of crops with patches that
are none of the picture's, and of chunks of sound of any length."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import torch
from torch.onnx import symbolic_helper
from transformers import AttentionInterface
from transformers.audio_utils import mel_filter_bank

from exporters.errors import ExportError, Refused
from exporters.graph.graph import OPSET, Graph
from exporters.model.phi4 import PhiSource
from exporters.trace.clean import clean_encoder
from exporters.trace.decoder_trace import exchange_gelu
from exporters.trace.operators import SYMBOL_OPSET
from exporters.trace.quiet import quiet
from exporters.vision_lm.records import (
    FILTERS_FILE,
    IMAGE_FILE,
    SOUND_FILE,
    ImageRecord,
    SoundRecord,
    session_of,
    sound_session,
)
from nsedge.bundle.hearing import SoundEncoderIo, SoundFeatures
from nsedge.bundle.vision_lm import CroppedPicture, ImageEncoderIo
from nsedge.runtime.encode.rows import Crop
from nsedge.runtime.graph.sound_encoder import order_of, pieces_of
from nsedge.runtime.vision.crops import Frame, patches_of
from nsedge.runtime.vision.levels import level_table, normalised, pattern

MAX_DIFFERENCE = 1e-4
"""Of any number of a row, as a share of the greatest."""
CROP_IO = ImageEncoderIo(bias="patch_bias", places="patch_places")
SOUND_IO = SoundEncoderIo()
IMPLEMENTATION = "nsedge_biased_mha"
RAW_FILE = "raw.onnx"
FULL_SCALE = 16.0
CHECK_SHARES = ((1.0, 1.0), (1.0, 0.4), (0.03, 1.0), (0.5, 0.75))
"""Of a crop that are the picture's, down and across, when the graph is held to PyTorch."""
CHECK_FRAMES = (1, 7, 8, 121, 805)
"""And features of a sound; besides one of more than a chunk."""
LONG = 173
"""How much more than a chunk, in features."""

_library = torch.library.Library("nsedge", "FRAGMENT")
_library.define(
    "biased_mha(Tensor query, Tensor key, Tensor value, Tensor bias, int heads, float scale)"
    " -> Tensor"
)


def biased_mha(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    heads: int,
    scale: float,
) -> torch.Tensor:
    """Attention of query [B, S, heads * D] over key and value [B, T, heads * D], with `bias`
    [B or 1, heads or 1, S, T] added to the scores."""
    parts = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(*parts, attn_mask=bias, scale=scale).transpose(1, 2).flatten(2)


_library.impl("biased_mha", biased_mha, "CPU")


@torch.library.register_fake("nsedge::biased_mha", lib=_library)
def _biased_mha_shape(query: torch.Tensor, *rest: object) -> torch.Tensor:
    return torch.empty_like(query)


@symbolic_helper.parse_args("v", "v", "v", "v", "i", "f")
def _biased_mha_symbol(
    g: Any, query: Any, key: Any, value: Any, bias: Any, heads: int, scale: float
) -> Any:
    nothing = symbolic_helper._optional_input_placeholder_tensor
    inputs = [query, key, value, nothing(g), nothing(g), bias]
    out = g.op("com.microsoft::MultiHeadAttention", *inputs, num_heads_i=heads, scale_f=scale)
    out.setType(query.type())
    return out


torch.onnx.register_custom_op_symbolic("nsedge::biased_mha", _biased_mha_symbol, SYMBOL_OPSET)


class CropEncoder(torch.nn.Module):
    """Crops [B, 3, H, W] to rows [B, rows + 2, hidden]: four patches a row, projected; then the end
    of a line, and what stands between crops and the whole."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.parts = model.model.embed_tokens_extend.image_embed
        layers = self.parts.img_processor.encoder.layers
        self._layers = [*layers][: range(len(layers) + 1)[self.parts.layer_idx]]
        self._side = int(self.parts.img_processor.embeddings.num_patches_per_side)

    def forward(
        self, pixel_values: torch.Tensor, bias: torch.Tensor, places: torch.Tensor
    ) -> torch.Tensor:
        embeddings, side = self.parts.img_processor.embeddings, self._side
        patches = embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        states = patches + embeddings.position_embedding.weight[places]
        spread = bias[:, None, None, :].expand(-1, 1, side * side, -1)
        for layer in self._layers:
            states = layer(states, spread)
        width = states.shape[-1]
        fours = states.reshape(-1, side // 2, 2, side // 2, 2, width).mean(dim=(2, 4))
        rows = fours.reshape(-1, (side // 2) ** 2, width)
        line_end, between = (
            self.parts.sub_img_feature_extensor[0],
            self.parts.global_img_feature_extensor,
        )
        ends = torch.cat([line_end, between], dim=1)
        # As many as there are crops, though they are the same for each.
        more = ends + torch.zeros_like(rows[:, :1])
        up = self.parts.img_projection_up(torch.cat([rows, more], dim=1))
        return self.parts.img_projection_down(torch.nn.functional.gelu(up))


class SoundEncoder(torch.nn.Module):
    """Features [1, T, bins] to rows [1, n, hidden], for prompts without pictures and with some."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.parts = model.model.embed_tokens_extend.audio_embed

    def forward(
        self, features: torch.Tensor, kept: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts, encoder = self.parts, self.parts.encoder
        frames, _ = encoder.embed(encoder.encoder_embedding(features), None)
        nothing = torch.zeros_like(frames[:, :1])
        states = torch.cat([frames, nothing], dim=1).index_select(1, kept)
        bias = encoder.relative_attention_bias_layer(states)
        for layer in encoder.encoders:
            states = layer(states, bias)
        gelu = torch.nn.functional.gelu
        alone = parts.down_proj_for_speech(gelu(parts.up_proj_for_speech(states)))
        up = gelu(parts.up_proj_for_vision_speech(states))
        return alone, parts.down_proj_for_vision_speech(up)


def make_crop_encoder(model: Any, source: PhiSource, out: Path) -> None:
    """Write the fp32 graph for crops and its record.

    Raises:
        Refused: it cannot be traced.
        ExportError: the graph does not compute what PyTorch does.
    """
    encoder, layout, io = CropEncoder(model).eval(), source.crops(), CROP_IO
    steps, patches = layout.steps, 4 * (layout.rows - 2)
    crops = [
        Crop(pattern(number, *steps.size), layout.rows, *_shared(layout, share))
        for number, share in enumerate(CHECK_SHARES)
    ]
    levels = np.stack([crop.pixels for crop in crops])
    pixels = torch.from_numpy(normalised(levels, level_table(steps)))
    example = pixels[:2], torch.zeros(2, patches), torch.zeros(2, patches, dtype=torch.int64)
    names = [io.pixel_values, str(io.bias), str(io.places)]
    graph = _traced(encoder, example, names, [io.embeds], {one: {0: "crops"} for one in names})
    graph.save(out / IMAGE_FILE)
    wanted = _torch_rows(model, pixels, crops, layout)
    record = ImageRecord(io=io, pictures=layout, hidden=wanted.shape[2], difference=0.0)
    found = np.stack(list(session_of(out, record).run(crops)))
    difference = _difference(found[:, :-2], wanted)
    difference = max(difference, _difference(found[0, -2:], _torch_ends(model)))
    _hold(difference)
    msgspec.structs.replace(record, difference=difference).write(out)


def _shared(layout: CroppedPicture, share: tuple[float, float]) -> Any:
    side = layout.steps.size[0]
    patches = [max(1, int(part * side / layout.patch)) for part in share]
    frame = Frame(size=(side, side), rows=1, columns=1, patches=(patches[0], patches[1]))
    return patches_of(layout, frame, 0, 0)


def _torch_rows(model: Any, pixels: torch.Tensor, crops: list[Crop], layout: CroppedPicture) -> Any:
    """What eager PyTorch makes of each crop, masked, as the whole model has it made."""
    parts = model.model.embed_tokens_extend.image_embed
    side = layout.steps.size[0] // layout.patch
    mask = torch.from_numpy(np.stack([crop.bias == 0 for crop in crops])).view(-1, side, side)
    with torch.no_grad(), quiet():
        rows = torch.cat(
            [
                parts.get_img_features(pixels[i : i + 1], attention_mask=mask[i : i + 1])
                for i in range(len(crops))
            ]
        )
        up = torch.nn.functional.gelu(parts.img_projection_up(rows))
        return parts.img_projection_down(up).numpy()


def _torch_ends(model: Any) -> Any:
    parts = model.model.embed_tokens_extend.image_embed
    with torch.no_grad():
        ends = torch.cat(
            [parts.sub_img_feature_extensor[0, 0], parts.global_img_feature_extensor[0]]
        )
        up = torch.nn.functional.gelu(parts.img_projection_up(ends))
        return parts.img_projection_down(up).numpy()


def make_sound_encoder(model: Any, source: PhiSource, out: Path) -> None:
    """Write the fp32 graph for sound, its filters and its record; raises as `make_crop_encoder`."""
    told, io = source.features(), SOUND_IO
    encoder = SoundEncoder(model).eval()
    example = torch.zeros(1, 45, told.bins), torch.arange(6)
    axes = {
        io.features: {1: "frames"},
        io.kept: {0: "kept"},
        io.alone: {1: "kept"},
        io.beside: {1: "kept"},
    }
    graph = _traced(encoder, example, [io.features, io.kept], [io.alone, io.beside], axes)
    graph.save(out / SOUND_FILE)
    filters(source, told).tofile(out / FILTERS_FILE)
    hidden = model.config.hidden_size
    record = SoundRecord(io=io, told=told, hidden=hidden, difference=0.0)
    session, difference = sound_session(out, record), 0.0
    random = np.random.default_rng(3)
    for frames in (*CHECK_FRAMES, told.stride * told.chunk_rows + LONG):
        features = (random.random((frames, told.bins)) * FULL_SCALE).astype(np.float32)
        rows, pieces = -(-frames // told.stride), pieces_of(features, told)
        found = np.concatenate(session.run(pieces))
        for beside in (False, True):
            wanted = sound_rows(model, features, "vision" if beside else "speech")
            order = order_of(pieces, rows, beside=beside)
            difference = max(difference, _difference(found[order], wanted))
    _hold(difference)
    msgspec.structs.replace(record, difference=difference).write(out)


def sound_rows(model: Any, features: np.ndarray[Any, Any], mode: str) -> Any:
    """What eager PyTorch makes of a whole sound [T, bins]: [rows, hidden]."""
    parts = model.model.embed_tokens_extend.audio_embed
    name = "speech" if mode == "speech" else "vision_speech"
    with torch.no_grad(), quiet():
        states = parts.encoder(torch.from_numpy(features)[None], None)
        up = torch.nn.functional.gelu(getattr(parts, f"up_proj_for_{name}")(states))
        return getattr(parts, f"down_proj_for_{name}")(up)[0].numpy()


def filters(source: PhiSource, told: SoundFeatures) -> Any:
    """The mel filters that sound goes through: float32 [fft_size // 2 + 1, bins]."""
    low, high = source.mel_range()
    made = mel_filter_bank(
        num_frequency_bins=told.fft_size // 2 + 1,
        num_mel_filters=told.bins,
        min_frequency=low,
        max_frequency=high,
        sampling_rate=told.sampling_rate,
        triangularize_in_mel_space=True,
        mel_scale="kaldi",
    )
    return np.asarray(made, "<f4")


def _difference(found: Any, wanted: Any) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def _hold(difference: float) -> None:
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(f"the encoder's graph differs from PyTorch by {difference:.2g}")


def _traced(
    encoder: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    axes: dict[str, dict[int, str]],
) -> Graph:
    raw = Path(tempfile.mkdtemp())
    try:
        with torch.no_grad(), quiet(), _traceable(encoder):
            torch.onnx.export(
                encoder,
                example,
                str(raw / RAW_FILE),
                input_names=inputs,
                output_names=outputs,
                dynamic_axes=axes | {name: axes[inputs[0]] for name in outputs if name not in axes},
                opset_version=OPSET,
                dynamo=False,
            )
        graph = Graph.load(raw / RAW_FILE)
        graph.weights = {name: np.array(array) for name, array in graph.weights.items()}
    except Refused:
        raise
    except Exception as error:  # whatever a model's own code raises while it is traced
        told = " ".join(str(error).split())[:300]
        name = type(encoder).__name__
        raise Refused(f"{name} cannot be traced: {type(error).__name__}: {told}") from error
    finally:
        shutil.rmtree(raw)
    clean_encoder(graph)
    return graph


@contextmanager
def _traceable(encoder: torch.nn.Module) -> Iterator[None]:
    """`encoder` with attention on our operator, and convolutions over single places as products,
    until the exit."""
    with ExitStack() as undo:
        AttentionInterface.register(IMPLEMENTATION, _attend)
        undo.callback(AttentionInterface._global_mapping.pop, IMPLEMENTATION)
        configs = {id(c): c for m in encoder.modules() if (c := getattr(m, "config", None))}
        for config in configs.values():
            undo.callback(setattr, config, "_attn_implementation", config._attn_implementation)
            config._attn_implementation = IMPLEMENTATION
        for module in encoder.modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d) and _is_product(module):
                undo.enter_context(patch.object(module, "forward", _product(module)))
            elif "GELU" in type(module).__name__:
                exchange_gelu(module, undo)
        yield


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: query, key, value are [B, heads, T, D]."""
    rows, heads, length, width = query.shape
    flat = [x.transpose(1, 2).reshape(rows, -1, heads * width) for x in (query, key, value)]
    scale = float(width**-0.5 if scaling is None else scaling)
    out = torch.ops.nsedge.biased_mha(*flat, attention_mask, heads, scale)
    return out.view(rows, length, heads, width), None


def _is_product(conv: Any) -> bool:
    """Whether a convolution's kernels do not overlap: patches, or single places."""
    return conv.groups == 1 and conv.stride == conv.kernel_size and not any(conv.padding)


def _product(conv: Any) -> Any:
    """Such a convolution as a product with rows, so that it can be quantised."""
    weight = conv.weight.detach().reshape(conv.out_channels, -1).T.contiguous()

    def forward(x: torch.Tensor) -> torch.Tensor:
        if set(conv.kernel_size) == {1}:
            last, back = ((0, 2, 1), (0, 2, 1)) if x.ndim == 3 else ((0, 2, 3, 1), (0, 3, 1, 2))
            made = x.permute(last) @ weight
            return (made if conv.bias is None else made + conv.bias).permute(back)
        (high, wide), channels = conv.kernel_size, conv.in_channels
        down, across = int(x.shape[2]) // high, int(x.shape[3]) // wide
        tiles = x.reshape(-1, channels, down, high, across, wide).permute(0, 2, 4, 1, 3, 5)
        rows = tiles.reshape(-1, down * across, channels * high * wide) @ weight
        made = rows if conv.bias is None else rows + conv.bias
        return made.transpose(1, 2).reshape(-1, conv.out_channels, down, across)

    return forward
