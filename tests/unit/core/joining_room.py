"""An intake with models that write, hear and see, for conversations with media."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from nsedge.api import (
    Chat,
    Event,
    Failed,
    Finished,
    FinishReason,
    Media,
    MediaPart,
    MediaRead,
    Message,
    Request,
    Role,
    Segment,
    TextPart,
    Timings,
    Usage,
    is_terminal,
)
from nsedge.core.intake import Intake
from nsedge.core.journal import Journal
from nsedge.core.media_kinds import MediaSettings
from nsedge.errors import (
    NsedgeError,
)
from tests.ipc import until
from tests.unit.shelf import FakeWork, Shelf


@dataclasses.dataclass(frozen=True)
class Does:
    """What of a manifest says what a model does."""

    tasks: tuple[str, ...]
    media_kinds: tuple[str, ...] = ()


def sound(data: bytes = b"RIFF", place: str = "", kind: str = "audio/wav") -> MediaPart:
    return MediaPart(media=Media(type=kind, data=data), place=place)


def said(*parts: MediaPart | str, role: Role = Role.USER) -> Message:
    return Message(
        role=role,
        content=tuple(TextPart(text=one) if isinstance(one, str) else one for one in parts),
    )


@dataclasses.dataclass
class Room:
    """An intake with a writer and ears, and what came of each request."""

    intake: Intake
    shelf: Shelf
    journal: Journal
    events: dict[str, list[Event]] = dataclasses.field(default_factory=dict)

    def ask(self, label: str, *messages: Message, model: str = "writer", **wish: Any) -> Any:
        task = Chat(messages=messages or (said("Listen:", sound()),))
        self.events[label] = []
        request = Request(request_id=label, model=model, task=task, **wish)
        return self.intake.submit(request, self.events[label].append)

    def work(self, model: str) -> list[FakeWork]:
        """What a model was given, of all its times in memory."""
        return [work for one in self.shelf.models if one.name == model for work in one.accepted]

    async def given(self, model: str, count: int = 1) -> list[FakeWork]:
        await until(lambda: len(self.work(model)) == count)
        return self.work(model)

    async def joined(self, count: int = 1) -> list[str]:
        """The texts of the last request's messages, once the writer has it."""
        task = (await self.given("writer", count))[-1].request.task
        assert isinstance(task, Chat)
        assert not any(one.media for one in task.messages)
        return [one.text for one in task.messages]

    async def end(self, label: str) -> Event:
        await until(lambda: any(map(is_terminal, self.events[label])))
        assert sum(map(is_terminal, self.events[label])) == 1
        return self.events[label][-1]

    async def failed(self, label: str) -> Failed:
        end = await self.end(label)
        assert isinstance(end, Failed), end
        return end

    def read(self, label: str) -> list[MediaRead]:
        return [one for one in self.events[label] if isinstance(one, MediaRead)]


def hear(work: FakeWork, *texts: str, audio_s: float = 2.0) -> None:
    """A transcript of these segments."""
    label = work.request.request_id
    for seq, text in enumerate(texts):
        work.emit(Segment(request_id=label, seq=seq, start_s=0.0, end_s=1.0, text=text))
    finish(work, audio_s=audio_s)


def finish(work: FakeWork, *, audio_s: float = 0.0) -> None:
    work.emit(
        Finished(
            request_id=work.request.request_id,
            reason=FinishReason.STOP,
            usage=Usage(prompt_tokens=1, completion_tokens=1, audio_s=audio_s),
            timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
        )
    )


def fail(work: FakeWork, error: NsedgeError) -> None:
    work.emit(Failed.of(work.request.request_id, error))


DOES = {
    "writer": Does(("generate", "chat")),
    "listener": Does(("generate", "chat"), ("audio",)),
    "ears": Does(("transcribe",)),
    "more ears": Does(("transcribe",)),
    "eyes": Does(("caption",)),
}


@contextlib.asynccontextmanager
async def room(
    folder: Path, *models: str, media: MediaSettings | None = None, **options: Any
) -> AsyncIterator[Room]:
    names = models or ("writer", "ears")
    bounds = {"on_demand": True, "max_waiting": 8, "max_untaken": 64, "budget": None} | options
    budget = bounds.pop("budget")
    async with Shelf(folder, dict.fromkeys(names, 1), budget=budget) as shelf:
        for name in names:
            shelf.entry(name).manifest = DOES[name]  # type: ignore[assignment]
        journal = Journal()
        intake = Intake(
            residency=shelf.residency,  # type: ignore[arg-type]  # its models are never run here
            journal=journal,
            check_open=lambda: None,
            clock=shelf.clock,
            media=media,
            **bounds,
        )
        made = Room(intake, shelf, journal)
        try:
            yield made
        finally:
            for gate in shelf.gates.values():
                gate.set()
            for label, events in made.events.items():
                ended = sum(map(is_terminal, events))
                assert ended <= 1, label
            for model in shelf.models:
                for work in model.accepted:
                    work.emit(Finished.cancelled(work.request.request_id))
            await asyncio.wait_for(intake.drain(10.0), 60.0)
