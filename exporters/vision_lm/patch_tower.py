"""The encoders of Qwen2-VL and Qwen2.5-VL, in PyTorch: a picture of any grid in patches, positions
by rotary embedding on two axes, attention to all patches or within windows."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import embedding

from exporters.errors import Refused

Turn = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Rows of tables [1, N], cosines and sines [N, R]."""


class PatchEncoder(torch.nn.Module):
    """Patches [N, numbers] of one picture to rows [N / merge², hidden]. Places [N, 2] are the row
    and column of each patch; `slots` and `filled` [windows, places] and `back` [N] tell of windows,
    where layers have some (nsedge.runtime.vision.patches)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        tower = model.model.visual
        self.blocks, self.merger = tower.blocks, tower.merger
        projection = tower.patch_embed.proj
        self.patch = projection.weight.detach().reshape(projection.out_channels, -1).T.contiguous()
        if projection.bias is not None:
            raise Refused("patches with a bias have no form here")
        self.frequencies = tower.rotary_pos_emb.inv_freq
        whole = getattr(tower, "fullatt_block_indexes", range(len(self.blocks)))
        self.whole = frozenset(int(number) for number in whole)

    @property
    def has_windows(self) -> bool:
        """Whether some layers attend within windows."""
        return len(self.whole.intersection(range(len(self.blocks)))) < len(self.blocks)

    def forward(
        self,
        pixel_values: torch.Tensor,
        places: torch.Tensor,
        slots: torch.Tensor | None = None,
        filled: torch.Tensor | None = None,
        back: torch.Tensor | None = None,
    ) -> torch.Tensor:
        angles = (places.float()[..., None] * self.frequencies).flatten(1)
        turn = torch.arange(pixel_values.shape[0])[None], angles.cos(), angles.sin()
        stream = (pixel_values @ self.patch)[None]
        for number, block in enumerate(self.blocks):
            normed = block.norm1(stream)
            if number in self.whole or slots is None or filled is None or back is None:
                attended = _among_all(block.attn, normed, turn)
            else:
                attended = _within(block.attn, normed, turn, (slots, filled, back))
            stream = stream + block.attn.proj(attended)
            stream = stream + block.mlp(block.norm2(stream))
        return self.merger(stream)


def _turned(attention: Any, normed: torch.Tensor, turn: Turn) -> list[torch.Tensor]:
    """Queries and keys, rotated, and values: [1, N, D] each."""
    query, key, value = attention.qkv(normed).split(normed.shape[-1], dim=-1)
    return [*(torch.ops.nsedge.rotary(x, *turn) for x in (query, key)), value]


def _among_all(attention: Any, normed: torch.Tensor, turn: Turn) -> torch.Tensor:
    parts = _turned(attention, normed, turn)
    return torch.ops.nsedge.mha(*parts, None, attention.num_heads, float(attention.scaling))


def _within(
    attention: Any,
    normed: torch.Tensor,
    turn: Turn,
    windows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """The same within windows, each a row of a batch with empty places at its end masked."""
    slots, filled, back = windows
    parts = [embedding(slots, one[0]) for one in _turned(attention, normed, turn)]
    made = torch.ops.nsedge.mha(*parts, filled, attention.num_heads, float(attention.scaling))
    return embedding(back, made.flatten(0, 1))[None]
