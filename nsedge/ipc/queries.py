"""Queries and commands as calls of a `Service`, and their answers as older clients know them."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from nsedge.api import LoadWish, ModelInfo, ModelState, Service
from nsedge.errors import NsedgeError
from nsedge.ipc import messages as wire
from nsedge.ipc.requests import question_of

T = TypeVar("T")

_BEFORE_1_2 = {
    ModelState.WARMING: ModelState.LOADING,
    ModelState.DRAINING: ModelState.READY,
}
"""States that clients of 1.1 do not know, as they are told."""


async def answer(service: Service, query: wire.Query, *, minor: int) -> wire.Reply:
    """The reply to `query`, for a client of protocol 1.`minor`.

    Raises:
        NsedgeError: what the service refuses it with.
    """
    match query:
        case wire.ModelsQuery():
            return wire.Reply(id=query.id, models=known_to(await service.models(), minor))
        case wire.StatsQuery():
            return wire.Reply(id=query.id, stats=await service.stats())
        case wire.HealthQuery():
            return wire.Reply(id=query.id, health=await service.health())
        case wire.UsageQuery():
            return wire.Reply(id=query.id, usage=await service.usage())
        case wire.ReadPrompt():
            return wire.Reply(id=query.id, prompt=await service.read_prompt(question_of(query)))
        case wire.Detokenize():
            text = await service.detokenize(query.model, query.token_ids)
            return wire.Reply(id=query.id, text=text)
        case wire.Describe():
            return wire.Reply(id=query.id, card=await service.describe(query.model))
        case wire.Load():
            return wire.Reply(id=query.id, loaded=await service.load(wish_of(query)))
        case wire.Unload():
            gone = await service.unload(query.model, drain_s=query.drain_s)
            return wire.Reply(id=query.id, models=gone)
        case wire.Reload():
            return wire.Reply(id=query.id, models=(await service.reload(query.model),))
        case wire.Alias():
            result = await service.alias(query.alias, query.model)
            models = () if result.model is None else (result.model,)
            return wire.Reply(id=query.id, models=models, unkept=result.unkept)


def wish_of(message: wire.Load) -> LoadWish:
    """The wish that a message carries."""
    return LoadWish(
        model=message.model,
        priority=message.priority,
        keep_alive_s=message.keep_alive_s,
        pin=message.pin,
        exclusive=message.exclusive,
        wait=message.wait,
    )


def load_of(wish: LoadWish, label: str) -> wire.Load:
    """The message that carries a wish."""
    return wire.Load(
        id=label,
        model=wish.model,
        priority=wish.priority,
        keep_alive_s=wish.keep_alive_s,
        pin=wish.pin,
        exclusive=wish.exclusive,
        wait=wish.wait,
    )


def known_to(models: tuple[ModelInfo, ...], minor: int) -> tuple[ModelInfo, ...]:
    """`models` in the words of protocol 1.`minor`: before 1.2, those in memory or on their way."""
    if minor >= 2:
        return models
    return tuple(
        dataclasses.replace(model, state=_BEFORE_1_2.get(model.state, model.state))
        for model in models
        if model.state is not ModelState.ABSENT
    )


def present(value: T | None) -> T:
    """The value that a reply must have. Raises NsedgeError where it is missing."""
    if value is None:
        raise NsedgeError("the daemon's reply lacks what was asked for")
    return value
