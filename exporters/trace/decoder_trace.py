"""Make a transformers causal LM traceable around GroupQueryAttention, leaving its code alone.

Inside `traceable`, attention goes to `nsedge::gqa` (which owns the cache), norms and activations go
to our operators where a probe shows that they compute the same, and with `Rotary.INSIDE` the rotary
embedding is left to the attention operator, which takes its tables. Nothing here knows an exporter.
"""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from exporters.errors import Refused
from exporters.trace import operators
from exporters.trace.experts import has_experts, traceable_forward
from exporters.trace.many_axes import exchange_axes

IMPLEMENTATION = "nsedge_gqa"
PROBE_TOLERANCE = 1e-5
PROBED_WIDTH = 16

Pairs = list[tuple[torch.Tensor, torch.Tensor]]
Tables = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines [positions, R]."""


class Rotary(enum.StrEnum):
    """Where positions are turned into rotations."""

    INSIDE = "inside"
    """In the attention operator, from tables: the fast way."""
    GRAPH = "graph"
    """In the graph, from an input of position ids: for what the operator cannot express."""
    AXES = "axes"
    """The same from positions on several axes."""


class RotaryUnfit(Exception):
    """This rotary embedding cannot move into the operator."""


class _NoCache(Cache):
    """Hands keys and values through: the operator keeps them."""

    is_compileable = False
    is_sliding: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self.layers: list[Any] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return key_states, value_states

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        return 0

    def get_max_cache_shape(self, *args: Any, **kwargs: Any) -> int:
        return -1

    def get_mask_sizes(self, queries: torch.Tensor | int, *args: Any) -> tuple[int, int]:
        """`queries` are positions [Q] in transformers 4, and how many in transformers 5."""
        return queries if isinstance(queries, int) else queries.shape[0], 0

    def __len__(self) -> int:
        return 0


class _Pass:
    """One forward pass: the cache it reads, the cache it makes, the rotary tables on their way."""

    def __init__(self, past: Pairs, seqlens_k: torch.Tensor, total_length: torch.Tensor) -> None:
        self.past = past
        self.seqlens_k = seqlens_k
        self.total_length = total_length
        self.present: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.tables: Tables | None = None
        self.rows: torch.Tensor | None = None
        """Of tables that have a row for each token: which is whose [B, S]."""

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: torch.Tensor | None = None,
        **unused: Any,
    ) -> tuple[torch.Tensor, None]:
        """transformers' attention function: query, key, value are [B, heads, S, D]."""
        layer = int(module.layer_idx)
        rows, heads, length, width = query.shape
        flat = [x.transpose(1, 2).reshape(rows, length, -1) for x in (query, key, value)]
        cos, sin = self.tables or (None, None)
        self.tables = None
        if self.rows is not None and cos is not None:
            for i in (0, 1):
                flat[i] = torch.ops.nsedge.rotary(flat[i], self.rows, cos, sin)
            cos = sin = None
        out, *present = torch.ops.nsedge.gqa(
            *flat,
            *self.past[layer],
            self.seqlens_k,
            self.total_length,
            cos,
            sin,
            s_aux,
            heads,
            key.shape[1],
            float(width**-0.5 if scaling is None else scaling),
            int(sliding_window or -1),
            float(softcap or 0.0),
        )
        self.present[layer] = (present[0], present[1])
        return out.view(rows, length, heads, width), None


class DecoderTrace:
    """A model in its traceable state; `forward` takes and gives what the graph shall."""

    def __init__(self, model: Any, inner_forward: Callable[..., Any], layers: int) -> None:
        self.model = model
        self._inner = inner_forward
        self._accepts = inspect.signature(inner_forward).parameters
        self._layers = layers
        self._pass: _Pass | None = None

    def forward(
        self,
        input_ids: torch.Tensor,
        seqlens_k: torch.Tensor,
        total_sequence_length: torch.Tensor,
        logits_to_keep: torch.Tensor,
        past_key_values: Pairs,
        position_ids: torch.Tensor | None = None,
        media_embeds: torch.Tensor | None = None,
        media_positions: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        """Logits [B, K, V] and the cache after `input_ids` [B, S], of which some may be rows
        `media_embeds` [M, H] instead, at `media_positions` [M, 2]."""
        self._pass = _Pass(past_key_values, seqlens_k, total_sequence_length)
        wanted = {
            "position_ids": torch.zeros_like(input_ids) if position_ids is None else position_ids,
            "logits_to_keep": logits_to_keep,
        }
        known = {name: value for name, value in wanted.items() if name in self._accepts}
        cache = "cache" if "cache" in self._accepts else "past_key_values"
        read = {"input_ids": input_ids}
        if media_embeds is not None and media_positions is not None:
            embedded = self.model.get_input_embeddings()(input_ids)
            placed = torch.ops.nsedge.place_rows(embedded, media_embeds, media_positions)
            read = {"inputs_embeds": placed}
        out = self._inner(
            **read,
            use_cache=True,
            return_dict=True,
            **{cache: _NoCache()},
            **known,
        )
        present = self._pass.present
        if sorted(present) != list(range(self._layers)):
            raise Refused(f"{type(self.model).__name__}: some layers have no ordinary attention")
        logits = out.logits if "logits_to_keep" in known else out.logits[:, logits_to_keep]
        return {"logits": logits, "present": [present[i] for i in range(self._layers)]}

    def current(self) -> _Pass:
        """The pass that is running."""
        if self._pass is None:
            raise RuntimeError("attention was called outside a pass")
        return self._pass

    def attend(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
        """The running pass's attention."""
        return self.current().attend(*args, **kwargs)

    def leave_rotation(self, q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any, *_: Any) -> Any:
        """Stands in for apply_rotary_pos_emb: keeps the tables for the operator."""
        self.current().tables = (cos, sin)
        return q, k

    def rotate_by(self, rows: torch.Tensor) -> None:
        """Have the running pass rotate by these rows [B, S] of the tables that layers are given."""
        self.current().rows = rows


@contextmanager
def traceable(
    model: Any, inner_forward: Callable[..., Any], *, layers: int, rotary: Rotary, positions: int
) -> Iterator[DecoderTrace]:
    """`model` with attention, norms and rotary embedding on our operators, until the exit.

    Raises:
        Refused: the model's attention cannot be exchanged.
        RotaryUnfit: `Rotary.INSIDE` does not suit it.
    """
    trace = DecoderTrace(model, inner_forward, layers)
    with ExitStack() as undo:
        _exchange_attention(model, trace, undo)
        for module in model.modules():
            name = type(module).__name__
            if name.endswith("RMSNorm"):
                exchange_norm(module, undo)
            elif "GELU" in name:
                exchange_gelu(module, undo)
            elif has_experts(module):
                undo.enter_context(patch.object(module, "forward", traceable_forward(module)))
        if rotary is Rotary.INSIDE:
            _exchange_rotary(model, trace, positions, undo)
        elif rotary is Rotary.AXES:
            exchange_axes(model, trace, undo)
        yield trace


def _exchange_attention(model: Any, trace: DecoderTrace, undo: ExitStack) -> None:
    if not getattr(model, "_supports_attention_backend", False):
        raise Refused(f"{type(model).__name__} does not let its attention be exchanged")
    before = model.config._attn_implementation
    AttentionInterface.register(IMPLEMENTATION, trace.attend)
    undo.callback(AttentionInterface._global_mapping.pop, IMPLEMENTATION)
    model.set_attn_implementation(IMPLEMENTATION)
    undo.callback(model.set_attn_implementation, before)


def exchange_norm(module: Any, undo: ExitStack) -> None:
    """Route a norm to the operator if, on a probe, one of the usual formulas is what it does."""
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if weight is None or epsilon is None or weight.ndim != 1:
        return
    probe = torch.linspace(-2.0, 3.0, weight.shape[0], dtype=weight.dtype)[None]
    with torch.no_grad():
        wanted = module(probe)
        for gain in (weight.detach(), 1.0 + weight.detach()):
            got = operators.rms_norm(probe, gain, epsilon)
            if torch.allclose(got, wanted, rtol=PROBE_TOLERANCE, atol=PROBE_TOLERANCE):
                undo.enter_context(patch.object(module, "forward", _norm(gain, float(epsilon))))
                return


def _norm(gain: torch.Tensor, epsilon: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.ops.nsedge.rms_norm(x, gain, epsilon)

    return forward


def exchange_gelu(module: Any, undo: ExitStack) -> None:
    """Route an activation to the operator if, on a probe, it is the tanh approximation."""
    probe = torch.linspace(-4.0, 4.0, 81)
    with torch.no_grad():
        same = torch.allclose(
            module(probe), operators.gelu_tanh(probe), rtol=0.0, atol=PROBE_TOLERANCE
        )
    if same:
        undo.enter_context(patch.object(module, "forward", torch.ops.nsedge.gelu_tanh))


def _exchange_rotary(model: Any, trace: DecoderTrace, positions: int, undo: ExitStack) -> None:
    sources = [m for m in model.modules() if type(m).__name__.endswith("RotaryEmbedding")]
    if not sources:
        raise RotaryUnfit("it has no rotary embedding")
    for source in sources:
        home = sys.modules[type(source).__module__]
        tabled = _tabled(source, positions)
        if not _rotates_as_we_do(home):
            raise RotaryUnfit(f"{home.__name__} applies it in its own way")
        undo.enter_context(patch.object(source, "forward", tabled))
    for home in {sys.modules[type(source).__module__] for source in sources}:
        undo.enter_context(patch.object(home, "apply_rotary_pos_emb", trace.leave_rotation))


def _rotates_as_we_do(home: Any) -> bool:
    """Whether, on a probe, the module `home` rotates queries and keys by the operator's formula."""
    apply = getattr(home, "apply_rotary_pos_emb", None)
    if apply is None:
        return False
    query, key = torch.linspace(-1.0, 1.0, 2 * 3 * PROBED_WIDTH).view(2, 1, 1, 3, PROBED_WIDTH)
    angles = torch.linspace(0.0, 2.0, 3 * PROBED_WIDTH // 2).view(1, 3, -1)
    cos, sin = angles.cos(), angles.sin()
    try:
        got = apply(query, key, torch.cat([cos, cos], -1), torch.cat([sin, sin], -1))
        return all(
            torch.allclose(one, operators.rotate(x, cos, sin), rtol=0.0, atol=PROBE_TOLERANCE)
            for one, x in zip(got, (query, key), strict=True)
        )
    except (TypeError, ValueError, RuntimeError):  # it takes or gives something else
        return False


def _tabled(source: Any, positions: int) -> Callable[..., Tables]:
    """Stands in for a rotary module's forward: gives its tables instead of some positions' rows.

    In transformers 5 one module serves layers of several types, and is told which.
    """
    if "layer_type" not in inspect.signature(source.forward).parameters:
        tables = rotary_tables(source, positions)
        return lambda *args, **kwargs: tables
    by_type = {kind: rotary_tables(source, positions, kind) for kind in source.layer_types}
    return lambda x, position_ids, layer_type: by_type[layer_type]


def rotary_tables(source: Any, positions: int, *layer_type: str) -> Tables:
    """The cosines and sines [positions, R] of a rotary module, whose halves must be equal.

    Raises:
        RotaryUnfit: they are not, or R does not suit the operator (a multiple of 8).
    """
    with torch.no_grad():
        cos, sin = source(torch.zeros(1, 1, 8), torch.arange(positions)[None], *layer_type)
    half = cos.shape[-1] // 2
    if cos.shape[0] != 1 or not torch.equal(cos[..., :half], cos[..., half:]):
        raise RotaryUnfit("its features are not paired by halves")
    if half % 8:
        raise RotaryUnfit(f"it rotates {2 * half} features, which is no multiple of 16")
    return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
