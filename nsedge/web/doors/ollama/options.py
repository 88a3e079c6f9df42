"""Ollama's `options` -> sampling; pure. Each is mapped, harmless here, or refused by its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import msgspec

from nsedge.api import Sampling
from nsedge.api.sampling import BOUNDS
from nsedge.errors import InvalidParameter
from nsedge.web.bodies import Integer, beyond, decode
from nsedge.web.hints import hint, one_of
from nsedge.web.other_fields import OtherFields
from nsedge.web.sampling_fields import (
    Repetition,
    SamplingFields,
    Seed,
    Stop,
    Stops,
    bounds_of,
    sampling,
)


class Options(msgspec.Struct, kw_only=True):
    """The options that change how tokens are chosen, or where the answer ends."""

    temperature: Annotated[float, bounds_of("temperature")] | None = None
    top_k: Annotated[Integer, hint(maximum=BOUNDS["top_k"][1])] | None = None
    top_p: Annotated[float, bounds_of("top_p")] | None = None
    min_p: Annotated[float, bounds_of("min_p")] | None = None
    repeat_penalty: Repetition | None = None
    presence_penalty: Annotated[float, bounds_of("presence_penalty")] | None = None
    frequency_penalty: Annotated[float, bounds_of("frequency_penalty")] | None = None
    repeat_last_n: Annotated[Integer, bounds_of("penalty_last_n")] | None = None
    typical_p: Annotated[float, bounds_of("typical_p")] | None = None
    mirostat: Annotated[Integer, one_of((0, 2))] | None = None
    mirostat_tau: Annotated[float, bounds_of("mirostat_tau")] | None = None
    mirostat_eta: Annotated[float, bounds_of("mirostat_eta")] | None = None
    seed: Seed | None = None
    stop: Stop | Stops | None = None
    num_predict: Annotated[Integer, hint(maximum=BOUNDS["max_tokens"][1])] | None = None


_OTHERS = OtherFields(
    own={"tfs_z": (1,), "penalize_newline": (True,)},
    harmless=frozenset(
        {
            # Of how a model is loaded, and of speed; the daemon's settings have these.
            "numa",
            "num_batch",
            "num_gpu",
            "main_gpu",
            "low_vram",
            "f16_kv",
            "logits_all",
            "vocab_only",
            "use_mmap",
            "use_mlock",
            "embedding_only",
            "num_thread",
            "draft_num_predict",
            # Of a context that slides on when it is full; here it never does.
            "num_keep",
        }
    ),
    refuse_unknown=False,
)
"""`num_ctx` is left out and told: a context is as long as the daemon keeps it."""
_OURS = {"max_tokens": "num_predict"}
"""Our names of parameters, and the options that set them."""


def read_options(
    raw: bytes, ignored: tuple[str, ...] = (), *, logprobs: int | None = None
) -> tuple[Sampling, list[str]]:
    """What the options, a JSON object or nothing, ask for; and those that were left out, by name.
    `logprobs`: what stands beside them of these.

    A `num_predict` beyond the context ends with it (`done_reason` length), as at Ollama.

    Raises:
        InvalidParameter: naming `options.` and the option.
    """
    if raw in (b"", b"null"):
        return Sampling(logprobs=logprobs), []
    try:
        options = decode(raw, Options)
        honoured = Options.__struct_fields__
        passed = _OTHERS.check(beyond(raw, Options), honoured=honoured, ignored=ignored)
        return replace(_sampling(options), logprobs=logprobs), [
            f"options.{name}" for name in passed
        ]
    except InvalidParameter as error:
        name = _OURS.get(error.param or "", error.param)
        message = error.message.replace(error.param or name or "", name or "", 1)
        raise InvalidParameter(f"options: {message}", param=f"options.{name}") from error


def _sampling(options: Options) -> Sampling:
    most = options.num_predict
    wanted = sampling(
        SamplingFields(
            temperature=options.temperature,
            top_k=None if options.top_k is None else max(options.top_k, 0),
            top_p=options.top_p,
            min_p=options.min_p,
            repeat_penalty=options.repeat_penalty,
            repeat_last_n=options.repeat_last_n,
            typical_p=options.typical_p,
            mirostat=options.mirostat,
            mirostat_tau=options.mirostat_tau,
            mirostat_eta=options.mirostat_eta,
            presence_penalty=options.presence_penalty,
            frequency_penalty=options.frequency_penalty,
            seed=None if options.seed == -1 else options.seed,
            stop=options.stop,
            max_tokens=None if most is None or most <= 0 else most,
        )
    )
    return replace(wanted, clip_max_tokens=True)
