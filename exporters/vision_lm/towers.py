"""The two halves of a model that sees, in PyTorch: its encoder with the projector, and its decoder
as a causal LM by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from transformers import AttentionInterface, AutoModelForCausalLM, Phi4MultimodalForCausalLM

from exporters.errors import Refused
from exporters.trace.decoder_trace import exchange_gelu, exchange_norm
from exporters.vision_lm.patch_tower import PatchEncoder
from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.pictures import CHANNELS
from nsedge.bundle.vision_lm import ImageEncoderIo, PatchIo, Pictures, WindowIo
from nsedge.runtime.graph.patch_encoder import patch_feeds

IMPLEMENTATION = "nsedge_mha"


class LlavaEncoder(torch.nn.Module):
    """Pixels [B, 3, H, W] to rows [B, rows, hidden]: the wanted layer of the tower, projected."""

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.tower = model.model.vision_tower
        self.projector = model.model.multi_modal_projector
        wanted = model.config.vision_feature_layer
        self._layers = [wanted] if isinstance(wanted, int) else list(wanted)
        strategy = model.config.vision_feature_select_strategy
        if strategy not in ("default", "full"):
            raise Refused(f"vision_feature_select_strategy {strategy!r} has no form here")
        self._first = 1 if strategy == "default" else 0

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        states = self.tower(pixel_values, output_hidden_states=True).hidden_states
        chosen = [states[layer][:, self._first :] for layer in self._layers]
        return self.projector(torch.cat(chosen, dim=-1))


class AnyresEncoder(LlavaEncoder):
    """The same of LLaVA-Next, with the row that ends each row of patches behind it: rows
    [B, side * (side + 1), hidden], which stand in prompts where they lie, or not at all."""

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__(model, size)
        image = model.config.vision_config
        self._side = int(image.image_size) // int(image.patch_size)
        self.newline = model.model.image_newline

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        rows = super().forward(pixel_values)
        if rows.shape[1] != self._side**2:
            raise Refused(f"{int(rows.shape[1])} rows of {self._side**2} patches have no form here")
        side, hidden = self._side, int(rows.shape[2])
        grid = rows.reshape(-1, side, side, hidden)
        lines = torch.cat([grid, self.newline.expand_as(grid[:, :, :1])], dim=2)
        return lines.reshape(-1, side * (side + 1), hidden)


class TileEncoder(torch.nn.Module):
    """Tiles [B, 3, H, W] to rows [B, rows, hidden]: Idefics3's tower and connector, over patches
    that are all there, so that their places are the same for all tiles."""

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.tower = model.model.vision_model
        self.connector = model.model.connector
        self.places = _places(self.tower, size)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        embeddings = self.tower.embeddings
        patches = embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        stream = patches + embeddings.position_embedding(self.places)
        states = self.tower.encoder(inputs_embeds=stream, attention_mask=None).last_hidden_state
        return self.connector(self.tower.post_layernorm(states))


class PooledEncoder(torch.nn.Module):
    """Pixels [B, 3, H, W] to rows [B, rows, hidden]: Gemma 3's tower, and its projector, which
    pools patches."""

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.tower = model.model.vision_tower
        self.projector = model.model.multi_modal_projector

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.projector(self.tower(pixel_values=pixel_values).last_hidden_state)


def _places(tower: Any, size: tuple[int, int]) -> torch.Tensor:
    """Where the patches of a whole tile are in the table of places [1, patches], as the tower's own
    code has it."""
    asked: list[torch.Tensor] = []
    (high, wide), patch = size, tower.patch_size
    table = tower.embeddings.position_embedding
    before = table.register_forward_pre_hook(lambda _, given: asked.append(given[0].long()))
    try:
        mask = torch.ones(1, high // patch, wide // patch, dtype=torch.bool)
        with torch.no_grad():
            tower.embeddings(torch.zeros(1, 3, high, wide), mask)
    finally:
        before.remove()
    return asked[0]


ENCODERS: dict[str, Callable[[Any, tuple[int, int]], torch.nn.Module]] = {
    "llava": LlavaEncoder,
    "llava_next": AnyresEncoder,
    "gemma3": PooledEncoder,
    "idefics3": TileEncoder,
    "smolvlm": TileEncoder,
}
"""By model_type, those that take pictures of one size."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The encoder of a model, and how its graph is made: an example of each input by the name that
    its forward has for it, and the names in the graph, of which the first axis is of any size."""

    module: torch.nn.Module
    io: ImageEncoderIo
    example: dict[str, torch.Tensor]
    names: dict[str, str]


def encoder_of(model: Any, pictures: Pictures) -> Encoder:
    """The encoder of a model, by its family, given pictures as said."""
    if isinstance(pictures, PatchedPicture):
        return _patch_encoder(model, pictures)
    io, size = ImageEncoderIo(), pictures.steps.size
    return Encoder(
        module=ENCODERS[model.config.model_type](model, size).eval(),
        io=io,
        example={"pixel_values": torch.zeros(2, CHANNELS, *size)},
        names={"pixel_values": io.pixel_values},
    )


def _patch_encoder(model: Any, pictures: PatchedPicture) -> Encoder:
    module = PatchEncoder(model).eval()
    io = PatchIo(windows=WindowIo() if module.has_windows else None)
    feeds = patch_feeds(io, pictures, *pictures.grid)
    names = {"places": io.places}
    if io.windows is not None:
        names |= {name: getattr(io.windows, name) for name in ("slots", "filled", "back")}
    example = {name: torch.from_numpy(feeds[told]) for name, told in names.items()}
    values = torch.zeros(len(feeds[io.places]), module.patch.shape[0])
    whole = ImageEncoderIo(patches=io)
    return Encoder(
        module=module,
        io=whole,
        example={"pixel_values": values, **example},
        names={"pixel_values": whole.pixel_values, **names},
    )


def decoder_of(model: Any) -> Any:
    """The decoder of a model as a causal LM, with its weights."""
    parts = model.model
    if isinstance(model, Phi4MultimodalForCausalLM):  # a causal LM as it is
        return model
    if hasattr(parts, "visual"):  # no class of its own has this decoder with a head
        del parts.visual
        return model.eval()
    language = parts.language_model if hasattr(parts, "language_model") else parts.text_model
    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(language.config, attn_implementation="eager")
    causal.config = language.config
    prefix = causal.base_model_prefix
    setattr(causal, prefix if hasattr(causal, prefix) else "model", language)
    causal.set_output_embeddings(model.get_output_embeddings())
    return causal.eval()


@contextmanager
def traceable_encoder(encoder: torch.nn.Module) -> Iterator[None]:
    """`encoder` with attention on our operator, patches cut by reshapes and looked-up constants as
    constants, until the exit."""
    with ExitStack() as undo:
        AttentionInterface.register(IMPLEMENTATION, _attend)
        undo.callback(AttentionInterface._global_mapping.pop, IMPLEMENTATION)
        configs = {id(c): c for m in encoder.modules() if (c := getattr(m, "config", None))}
        for config in configs.values():
            undo.callback(setattr, config, "_attn_implementation", config._attn_implementation)
            config._attn_implementation = IMPLEMENTATION
        for module in encoder.modules():
            if isinstance(module, torch.nn.Conv2d):
                undo.enter_context(patch.object(module, "forward", _patches(module)))
            elif isinstance(module, torch.nn.Embedding):
                undo.enter_context(patch.object(module, "forward", _constants(module)))
            elif "GELU" in type(module).__name__:
                exchange_gelu(module, undo)
            elif type(module).__name__.endswith("RMSNorm"):
                exchange_norm(module, undo)
        yield


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: query, key, value are [B, heads, T, D]."""
    if attention_mask is not None:
        raise Refused("attention with a mask between patches has no form here")
    rows, heads, length, width = query.shape
    flat = [x.transpose(1, 2).reshape(rows, -1, heads * width) for x in (query, key, value)]
    scale = float(width**-0.5 if scaling is None else scaling)
    out = torch.ops.nsedge.mha(*flat, None, heads, scale)
    return out.view(rows, length, heads, width), None


def _patches(conv: torch.nn.Conv2d) -> Any:
    """A convolution whose kernels do not overlap, as a product with rows of pixels: what is beyond
    whole patches is cut off.

    Raises:
        Refused: it is another.
    """
    (high, wide), channels = conv.kernel_size, conv.in_channels
    plain = conv.stride == conv.kernel_size and conv.padding in ((0, 0), 0, "valid")
    if not plain or conv.groups != 1 or conv.dilation != (1, 1):
        raise Refused("a convolution over overlapping patches has no form here")
    weight = conv.weight.detach().reshape(conv.out_channels, -1).T.contiguous()

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        down, across = int(pixels.shape[2]) // high, int(pixels.shape[3]) // wide
        cut = pixels[:, :, : down * high, : across * wide]
        tiles = cut.reshape(-1, channels, down, high, across, wide).permute(0, 2, 4, 1, 3, 5)
        rows = tiles.reshape(-1, down * across, channels * high * wide) @ weight
        if conv.bias is not None:
            rows = rows + conv.bias
        return rows.transpose(1, 2).reshape(-1, conv.out_channels, down, across)

    return forward


def _constants(table: torch.nn.Embedding) -> Any:
    """Rows of a table by places that are the same for all pictures."""

    def forward(ids: torch.Tensor) -> torch.Tensor:
        return torch.tensor(table.weight.detach().numpy()[ids.numpy()])

    return forward
