"""The models that are known here: on disk, on their way into memory, in it, on their way out."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nsedge.api import LoadWish, ModelInfo, ModelMemory, ModelState, Priority
from nsedge.bundle import versions
from nsedge.bundle.adapter import AdapterManifest
from nsedge.bundle.manifest import Manifest
from nsedge.errors import NsedgeError
from nsedge.runtime.hosting.hosted import HostedModel
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.residency.budget import Holder


class User(Protocol):
    """Who holds a model: it stays until all of these have given it back."""

    def break_off(self, error: NsedgeError) -> None:
        """Give the model back now, since it has to leave."""


class Origin(enum.Enum):
    """Who wants a load."""

    COMMAND = "command"
    REQUEST = "request"
    START = "start"
    """The daemon, as it starts: for this nothing leaves memory."""
    GUESS = "guess"
    """Nobody yet: only what fits without anybody leaving."""


MAY_EVICT = frozenset({Origin.COMMAND, Origin.REQUEST})
_RANKS = {Priority.INTERACTIVE: 0, Priority.NORMAL: 1, Priority.BATCH: 2}


@dataclass(eq=False, slots=True, kw_only=True)
class Resident:
    """A model's time in memory."""

    entry: Entry
    model: HostedModel | None
    """None once it has left."""
    keep_alive_s: float
    guessed: bool
    used_s: float
    """When it was last begun or ended to be used; when it came, before that."""
    memory: ModelMemory
    """As last measured; so is what the budget is held to."""
    claimed: Amount
    users: set[User] = field(default_factory=set)
    base: Resident | None = None
    """Of an adapter, the model that it needs."""
    adapters: set[Resident] = field(default_factory=set)
    """Those that need this one; they leave before it does."""
    leaving: asyncio.Task[None] | None = None
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody uses it."""

    def __post_init__(self) -> None:
        self.quiet.set()

    def holder(self) -> Holder:
        """As admission sees it: adapters go with their base."""
        pinned = any(resident.entry.pinned for resident in (self, *self.adapters))
        return Holder(
            name=self.entry.name,
            amount=self.claimed,
            in_use=bool(self.everybody()) or self.leaving is not None,
            pinned=pinned and self.leaving is None,
            guessed=self.guessed,
            last_used_s=max(resident.used_s for resident in (self, *self.adapters)),
        )

    def everybody(self) -> list[User]:
        """Who uses it, or an adapter on it."""
        return [user for resident in (self, *self.adapters) for user in resident.users]


@dataclass(eq=False, slots=True, kw_only=True)
class Load:
    """A model that is to come, and all that wait for it."""

    entry: Entry
    wish: LoadWish
    origin: Origin
    number: int
    """Counts loads: of equals, the first goes first."""
    done: asyncio.Future[Resident]
    replaces: bool = False
    """Read it anew though it is in memory."""
    begun: bool = False
    dropped: NsedgeError | None = None
    """Why it is not wanted any more."""
    state: ModelState = ModelState.LOADING
    progress: float = 0.0
    position: int = 0
    waiting: int = 0
    """Requests that wait for it."""
    watchers: set[Callable[[], None]] = field(default_factory=set)
    """Called on every change of the three above `waiting`."""

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The less, the sooner."""
        return (self.origin is Origin.GUESS, _RANKS[self.wish.priority], self.number)

    def join(self, wish: LoadWish, origin: Origin) -> None:
        """Somebody else wants it too: the most urgent wish and the strongest origin count."""
        self.dropped = None
        first = min(wish.priority, self.wish.priority, key=lambda one: _RANKS[one])
        given = wish.keep_alive_s
        self.wish = dataclasses.replace(
            self.wish,
            priority=first,
            keep_alive_s=self.wish.keep_alive_s if given is None else given,
            exclusive=wish.exclusive or self.wish.exclusive,
        )
        if origin is Origin.COMMAND or self.origin in (Origin.GUESS, Origin.START):
            self.origin = origin

    def break_off(self, error: NsedgeError) -> None:
        """The base that it holds has to leave."""
        self.dropped = error

    def tell(self) -> None:
        """Let the watchers know of a change."""
        for watcher in list(self.watchers):
            watcher()


@dataclass(eq=False, slots=True, kw_only=True)
class Entry:
    """A model that is known here. Its state follows from what it is doing."""

    name: str
    path: Path
    manifest: Manifest | AdapterManifest | None
    """None where the bundle cannot be read."""
    stamp: int = 0
    """Tells one version of its manifest from another."""
    error: NsedgeError | None = None
    failed_s: float | None = None
    """When its last load failed."""
    pinned: bool = False
    aliases: set[str] = field(default_factory=set)
    load: Load | None = None
    resident: Resident | None = None
    load_s: float | None = None
    unloaded: bool = False
    """Somebody unloaded it, and nobody has asked for it since: no guess of it."""
    declined: object = None
    """What usage was like when it left unused: no guess of it while that is still so."""

    @property
    def base(self) -> str | None:
        """Of an adapter, the model that it is served from."""
        return self.manifest.base if isinstance(self.manifest, AdapterManifest) else None

    @property
    def names(self) -> tuple[str, ...]:
        """Its own, then its aliases."""
        return (self.name, *sorted(self.aliases))

    @property
    def superseded(self) -> bool:
        """Whether it is a version that no alias leads to: asked for by its whole name only."""
        return versions.is_version(self.path) and not self.aliases

    @property
    def ready(self) -> Resident | None:
        """Where requests can go now."""
        return (
            self.resident if self.resident is not None and self.resident.leaving is None else None
        )

    @property
    def state(self) -> ModelState:
        """Where it stands."""
        if self.ready is not None:
            return ModelState.READY
        if self.load is not None and self.load.begun:
            return self.load.state
        if self.resident is not None:
            return ModelState.DRAINING
        if self.load is not None:
            return ModelState.LOADING
        return ModelState.ABSENT if self.error is None else ModelState.FAILED

    def info(self) -> ModelInfo:
        """What clients are told."""
        resident, load = self.resident, self.load
        loading = load is not None and self.ready is None
        there = resident is not None and resident.model is not None
        return dataclasses.replace(
            self._plain(),
            state=self.state,
            error=None if self.error is None else self.error.message,
            progress=load.progress if load is not None and loading else None,
            queue_position=load.position if load is not None and loading else None,
            aliases=tuple(sorted(self.aliases)),
            pinned=self.pinned,
            in_use=len(resident.users) if resident is not None else 0,
            keep_alive_s=resident.keep_alive_s if resident is not None and there else None,
            memory=resident.memory if resident is not None and there else None,
            load_s=self.load_s,
            base=self.base,
        )

    def _plain(self) -> ModelInfo:
        if self.resident is not None and self.resident.model is not None:
            return self.resident.model.info()
        manifest = self.manifest
        if manifest is None:
            return ModelInfo(name=self.name, kind="unknown", state=self.state, created=0)
        created = datetime.datetime.fromisoformat(manifest.provenance.created)
        return ModelInfo(
            name=self.name,
            kind=manifest.kind,
            state=self.state,
            created=int(created.timestamp()),
            context_tokens=manifest.context_length,
            has_chat_template=manifest.has_chat_template,
            tasks=manifest.tasks,
            dimensions=getattr(manifest, "dimensions", None),
            labels=getattr(manifest, "labels", ()),
            head=getattr(manifest, "head_kind", None),
            mask=getattr(manifest, "mask", None),
            languages=getattr(manifest, "languages", ()),
        )
