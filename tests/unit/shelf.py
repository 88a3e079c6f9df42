"""A keeper over models without weights: bundles of a few files, and a loader that opens nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nsedge.api import (
    Generate,
    LoadWish,
    ModelInfo,
    ModelMemory,
    ModelState,
    PromptReading,
    Request,
)
from nsedge.errors import NsedgeError
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.hosted import Opening
from nsedge.runtime.machine.amounts import Amount, Room
from nsedge.runtime.residency.catalogue import Catalogue
from nsedge.runtime.residency.entries import Entry, Origin, Resident
from nsedge.runtime.residency.habits import Habits
from nsedge.runtime.residency.residency import Residency
from nsedge.runtime.residency.settings import ResidencySettings
from nsedge.runtime.residency.usage_file import UsageFile
from tests.fakes import FakeClock
from tests.ipc import PATIENCE_S
from tests.unit.bundles import write_bundle
from tests.unit.tiny_adapter import write_adapter


@dataclass(eq=False)
class FakeWork:
    """What a model was given to do."""

    request: Request
    emit: Emit
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass(eq=False)
class FakePrompts:
    """A token a character, once the gate is open."""

    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def reading(self, task: Generate, *, add_special: bool, parse_special: bool) -> PromptReading:
        assert self.gate.wait(PATIENCE_S)
        return PromptReading(text=task.text, token_ids=tuple(map(ord, task.text)))

    def text_of(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))

    def pieces(self, token_ids: Sequence[int]) -> tuple[bytes, ...]:
        return tuple(chr(token_id).encode() for token_id in token_ids)


@dataclass(eq=False)
class FakeModel:
    """Claims what it is told to."""

    name: str
    amount: Amount
    started: bool = False
    closed: bool = False
    accepted: list[FakeWork] = field(default_factory=list)
    prompts: FakePrompts | None = field(default_factory=FakePrompts)

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        assert self.started
        self.closed = True

    def info(self) -> ModelInfo:
        return ModelInfo(name=self.name, kind="causal-lm", state=ModelState.READY, created=0)

    def measure(self) -> tuple[ModelMemory, Amount]:
        held = ModelMemory(
            weights_bytes=self.amount.host, kv_bytes=0, arena_bytes=0, kv_reserved_bytes=0
        )
        return held, self.amount

    def accept(self, request: Request, emit: Emit, *, submitted_s: float) -> FakeWork:
        self.accepted.append(FakeWork(request, emit))
        return self.accepted[-1]

    def prompt_reader(self) -> FakePrompts | None:
        return self.prompts

    def comes_round(self, answer: Callable[[], None]) -> bool:
        return False

    def stats(self) -> None:
        return None

    def cache_bytes(self) -> int:
        return 0


@dataclass(eq=False)
class FakeUser:
    """Holds a model until it gives it back, or is broken off."""

    error: NsedgeError | None = None
    on_break: Callable[[], None] = lambda: None

    def break_off(self, error: NsedgeError) -> None:
        self.error = error
        self.on_break()


@dataclass
class Shelf:
    """Bundles below `folder`, by name with what each claims, and a keeper of them."""

    folder: Path
    sizes: dict[str, int]
    budget: int | None = None
    settings: ResidencySettings = field(default_factory=ResidencySettings)
    pinned: frozenset[str] = frozenset()
    aliases: dict[str, str] = field(default_factory=dict)
    available: int | None = None
    spare: int | None = None
    predictor: str = "patterns"
    usage_file: Path | None = None
    now_s: float = 1_000_000.0
    """Seconds since the Unix epoch."""

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.opened: list[str] = []
        self.bases: dict[str, FakeModel | None] = {}
        self.models: list[FakeModel] = []
        self.gates: dict[str, threading.Event] = {}
        self.errors: dict[str, Exception] = {}
        self.expected: dict[str, int] = {}
        for name in self.sizes:
            self.add(name)

    def add(self, name: str, size: int | None = None) -> Path:
        """Another bundle."""
        path = write_bundle(self.folder / name)
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**manifest, "name": name}))
        if size is not None:
            self.sizes[name] = size
        return path

    def add_adapter(self, base: str, name: str, size: int) -> Path:
        """An adapter of the bundle `base`."""
        path = write_adapter(self.folder / f"{base}+{name}", self.folder / base, name)
        self.sizes[path.name] = size
        return path

    async def __aenter__(self) -> Shelf:
        settings = dataclasses.replace(
            self.settings, budget=Room(self.budget), sweep_s=0.001, measure_s=0.0
        )
        self.residency = Residency(
            settings=settings,
            catalogue=Catalogue(
                paths=(),
                folder=self.folder,
                aliases=self.aliases,
                pinned=self.pinned,
                clock=self.clock,
            ),
            load=self._open,
            expect=self._expect,
            habits=Habits(
                file=UsageFile(self.usage_file),
                predictor=self.predictor,
                now=lambda: self.now_s + self.clock.now_s,
                hour=lambda now_s: 12,
            ),
            clock=self.clock,
            available=lambda: self.available,
            spare=lambda: self.spare,
        )
        await self.residency.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        for gate in self.gates.values():
            gate.set()
        await self.residency.stop()
        assert all(model.closed for model in self.models if model.started)

    def entry(self, name: str) -> Entry:
        return self.residency.catalogue.find(name)

    def state(self, name: str) -> ModelState:
        return self.entry(name).state

    async def load(self, name: str, *, origin: Origin = Origin.COMMAND, **wish) -> Resident:
        entry = self.entry(name)
        coming = self.residency.want(entry, LoadWish(model=name, **wish), origin)
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.shield(coming.done)

    def use(self, resident: Resident) -> FakeUser:
        user = FakeUser()
        user.on_break = lambda: self.residency.residents.give_back(resident, user)
        self.residency.residents.take(resident, user)
        return user

    def held_back(self, name: str) -> threading.Event:
        """Let the model be opened only once this is set."""
        self.gates[name] = threading.Event()
        return self.gates[name]

    def _open(self, path: Path, opening: Opening) -> FakeModel:
        name = path.name
        self.opened.append(name)
        self.bases[name] = opening.base
        opening.told(ModelState.LOADING, 0.5)
        if name in self.gates:
            assert self.gates[name].wait(PATIENCE_S)
        if name in self.errors:
            raise self.errors[name]
        opening.told(ModelState.WARMING, 1.0)
        model = FakeModel(name, Amount(self.sizes[name]))
        self.models.append(model)
        return model

    def _expect(self, path: Path) -> Amount:
        return Amount(self.expected.get(path.name, self.sizes[path.name]))
