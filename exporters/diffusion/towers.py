"""The models of a diffusers folder as they are traced: what each takes and gives, and its attention
as one operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from exporters.trace.operators import whole_attention


class TextTower(torch.nn.Module):
    """Ids [B, T] to states [B, T, width]; `pooled` gives those before the last layer's, and the
    text's vector."""

    def __init__(self, model: Any, *, pooled: bool, vector: bool) -> None:
        super().__init__()
        self.model = model
        self._early = pooled
        self._vector = vector

    def forward(self, input_ids: torch.Tensor) -> Any:
        made = self.model(input_ids=input_ids, output_hidden_states=True)
        states = made.hidden_states[-2] if self._early else made.last_hidden_state
        return (states, made.text_embeds) if self._vector else states


class Denoiser(torch.nn.Module):
    """A sample [B, C, H, W] at timesteps [B], with states [B, T, width] of a prompt, and where the
    model takes them its vector [B, width] and sizes [B, 6], to what the model gives of it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        states: torch.Tensor,
        pooled: torch.Tensor | None = None,
        sizes: torch.Tensor | None = None,
    ) -> Any:
        told = None if pooled is None else {"text_embeds": pooled, "time_ids": sizes}
        return self.model(sample, timestep, states, added_cond_kwargs=told, return_dict=False)[0]


class Decoder(torch.nn.Module):
    """Latents [B, C, H, W] to pixels."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.model.decode(latents, return_dict=False)[0]


class Encoder(torch.nn.Module):
    """Pixels [B, 3, H, W] to the mean and the deviation of latents."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> Any:
        made = self.model.encode(pixels, return_dict=False)[0]
        return made.mean, made.std


class WholeAttention:
    """A processor of diffusers' attention, which computes it by one operator. Nothing is masked."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        **unused: Any,
    ) -> torch.Tensor:
        if attention_mask is not None or attn.spatial_norm is not None or attn.norm_q is not None:
            raise NotImplementedError("attention with a mask, or norms of its own")
        residual, shape = hidden_states, hidden_states.shape
        if len(shape) == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross:
            seen = attn.norm_encoder_hidden_states(seen)
        made = whole_attention(
            attn.to_q(hidden_states),
            attn.to_k(seen),
            attn.to_v(seen),
            None,
            attn.heads,
            attn.scale,
        )
        made = attn.to_out[0](made)
        if len(shape) == 4:
            made = made.transpose(1, 2).reshape(shape)
        if attn.residual_connection:
            made = made + residual
        return made / attn.rescale_output_factor


@contextmanager
def traceable(model: Any) -> Iterator[None]:
    """With attention of one of diffusers' models by one operator; nothing for others."""
    if not hasattr(model, "set_attn_processor"):
        yield
        return
    before = dict(model.attn_processors)
    model.set_attn_processor(WholeAttention())
    try:
        yield
    finally:
        model.set_attn_processor(before)
