"""Questions about the daemon, commands to it, and their answer."""

from __future__ import annotations

from nsedge.api import (
    Health,
    LoadResult,
    ModelCard,
    ModelInfo,
    Priority,
    PromptReading,
    Stats,
    UsageReport,
)
from nsedge.ipc.messages.base import Id, Name, TokenId, Wire
from nsedge.ipc.messages.events import Failed
from nsedge.ipc.messages.requests import Chat, Generate


class ModelsQuery(Wire, frozen=True, kw_only=True, tag="models"):
    """Asks what is served."""

    id: Id


class StatsQuery(Wire, frozen=True, kw_only=True, tag="stats"):
    """Asks for counters and gauges."""

    id: Id


class HealthQuery(Wire, frozen=True, kw_only=True, tag="health"):
    """Asks whether requests are taken; the control socket answers it without a session."""

    id: Id


class Load(Wire, frozen=True, kw_only=True, tag="load"):
    """Asks for a model to be in memory."""

    id: Id
    model: Name
    priority: Priority = Priority.NORMAL
    keep_alive_s: float | None = None
    pin: bool | None = None
    exclusive: bool = False
    wait: bool = True


class Unload(Wire, frozen=True, kw_only=True, tag="unload"):
    """Lets a model leave memory, or all of them."""

    id: Id
    model: Name | None = None
    drain_s: float | None = None


class Reload(Wire, frozen=True, kw_only=True, tag="reload"):
    """Has a model's bundle read anew."""

    id: Id
    model: Name


class Alias(Wire, frozen=True, kw_only=True, tag="alias"):
    """Gives a model a further name, or takes it away."""

    id: Id
    alias: Name
    model: Name | None = None


class UsageQuery(Wire, frozen=True, kw_only=True, tag="usage"):
    """Asks how models have been used, and which are worth loading."""

    id: Id


class ReadPrompt(Wire, frozen=True, kw_only=True, tag="read_prompt"):
    """Asks how a model would read the prompt of `request`, whose own id counts for nothing."""

    id: Id
    request: Generate | Chat
    add_special: bool = True
    parse_special: bool = True
    with_pieces: bool = False


class Detokenize(Wire, frozen=True, kw_only=True, tag="detokenize"):
    """Asks for the text of some tokens."""

    id: Id
    model: Name
    token_ids: tuple[TokenId, ...]


class Describe(Wire, frozen=True, kw_only=True, tag="describe"):
    """Asks what is known of a model from its package."""

    id: Id
    model: Name


class Reply(Wire, frozen=True, kw_only=True, tag="reply"):
    """The answer to a query: exactly one field besides `id`, and `unkept` beside `models`."""

    id: str
    models: tuple[ModelInfo, ...] | None = None
    health: Health | None = None
    stats: Stats | None = None
    loaded: LoadResult | None = None
    usage: UsageReport | None = None
    prompt: PromptReading | None = None
    text: str | None = None
    card: ModelCard | None = None
    unkept: str | None = None
    error: Failed | None = None
