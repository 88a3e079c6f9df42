"""Media in a conversation with a model that reads text: others make texts of them, which stand in
their places; whatever goes wrong ends this request alone, and once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nsedge.api import (
    Caption,
    Chat,
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Loading,
    Media,
    MediaPart,
    MediaRead,
    Message,
    Priority,
    Request,
    Role,
    Segment,
    TextPart,
    Timings,
    Transcribe,
    Usage,
    is_terminal,
)
from nsedge.core.intake import Intake
from nsedge.core.joining import MAX_MEDIA
from nsedge.core.journal import Journal
from nsedge.core.media_kinds import MediaSettings
from nsedge.errors import (
    BundleInvalid,
    ConfigInvalid,
    ContextExceeded,
    InvalidMedia,
    InvalidParameter,
    NsedgeError,
    QueueFull,
)
from tests.ipc import until
from tests.unit.core.test_intake import play
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


@play
async def test_a_transcript_stands_in_the_place_of_a_recording(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x", said("Listen:", sound(), "Well?"))
        (heard,) = await one.given("ears")
        assert isinstance(heard.request.task, Transcribe)
        assert heard.request.task.media.data == b"RIFF"
        one.shelf.clock.advance(3.0)
        hear(heard, " One,", " two.")
        assert await one.joined() == ["Listen:\n[Audio 1: One, two.]\nWell?"]
        (told,) = one.read("x")
        assert told == MediaRead(
            request_id="x",
            place="messages[0].content[1]",
            media_type="audio/wav",
            task="transcribe",
            model="ears",
            text="One, two.",
            took_s=3.0,
            audio_s=2.0,
        )
        loads = {event.model for event in one.events["x"] if isinstance(event, Loading)}
        assert loads == {"ears", "writer"}
        assert {event.request_id for event in one.events["x"]} == {"x"}
        (work,) = one.work("writer")
        finish(work)
        end = await one.end("x")
        assert isinstance(end, Finished)
        assert (end.usage.audio_s, end.usage.prompt_tokens) == (2.0, 1)
        assert one.intake.accepted == 1, "what was asked for the request is part of it"


@play
async def test_a_caption_stands_in_the_place_of_a_picture(tmp_path: Path) -> None:
    async with room(tmp_path, "writer", "ears", "eyes") as one:
        picture = sound(b"P", kind="image/png")
        one.ask("x", said(picture, sound(), picture, sound(b"Q", kind="image/png"), "Well?"))
        first, second = await one.given("eyes", 2)
        (heard,) = await one.given("ears")
        assert isinstance(first.request.task, Caption)
        for work, text in ((first, ("a ", "dog ")), (second, ("a cat",))):
            for seq, piece in enumerate(text):
                label = work.request.request_id
                work.emit(Delta(request_id=label, seq=seq, text=piece, token_ids=(seq,)))
            finish(work)
        hear(heard, "so")
        assert await one.joined() == [
            "[Image 1: a dog]\n[Audio 1: so]\n[Image 2: a dog]\n[Image 3: a cat]\nWell?"
        ]
        assert {(told.task, told.model) for told in one.read("x")} == {
            ("caption", "eyes"),
            ("transcribe", "ears"),
        }
        (work,) = one.work("writer")
        finish(work)
        end = await one.end("x")
        assert isinstance(end, Finished)
        assert (end.usage.images, end.usage.audio_s) == (3, 2.0)


@play
async def test_what_the_model_hears_itself_is_left_to_it(tmp_path: Path) -> None:
    async with room(tmp_path, "listener", "eyes") as one:
        one.ask("x", said(sound(), sound(b"P", kind="image/png")), model="listener")
        (seen,) = await one.given("eyes")
        finish(seen)
        (work,) = await one.given("listener")
        assert isinstance(work.request.task, Chat)
        (message,) = work.request.task.messages
        assert message.content == (sound(), TextPart(text="[Image 1: ]"))


@play
async def test_media_are_numbered_through_the_conversation_and_named_by_their_door(
    tmp_path: Path,
) -> None:
    settings = MediaSettings(audio_template="<{{{n}}}> {transcript}{transcript}")
    async with room(tmp_path, media=settings) as one:
        first, second = sound(b"a", "input[4]"), sound(b"b")
        one.ask("x", said(first, "hi"), said("yes", role=Role.ASSISTANT), said("and", second))
        for work in await one.given("ears", 2):
            assert isinstance(work.request.task, Transcribe)
            hear(work, work.request.task.media.data.decode())
        assert await one.joined() == ["<{1}> aa\nhi", "yes", "and\n<{2}> bb"]
        assert [(told.place, told.text) for told in one.read("x")] == [
            ("input[4]", "a"),
            ("messages[2].content[1]", "b"),
        ]


@play
async def test_what_was_heard_once_is_not_heard_again(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x", said(sound(), sound()))
        (work,) = await one.given("ears")
        hear(work, "so")
        assert await one.joined() == ["[Audio 1: so]\n[Audio 2: so]"]
        assert [told.cached for told in one.read("x")] == [False, True]
        one.ask("y", said("again", sound()))
        assert await one.joined(2) == ["again\n[Audio 1: so]"]
        (told,) = one.read("y")
        assert (told.cached, told.took_s, told.audio_s) == (True, 0.0, 2.0)
        assert len(one.work("ears")) == 1
        one.shelf.entry("ears").stamp += 1
        one.ask("z", said(sound()))
        assert len(await one.given("ears", 2)) == 2, "another version may hear it otherwise"


@play
async def test_texts_are_kept_within_a_budget(tmp_path: Path) -> None:
    async with room(tmp_path, media=MediaSettings(kept_bytes=0)) as one:
        for count, label in enumerate("xy", 1):
            one.ask(label)
            hear((await one.given("ears", count))[-1], "so")
            await one.given("writer", count)


@play
async def test_several_are_read_side_by_side(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x", said(*(sound(bytes([n])) for n in range(20))))
        works = await one.given("ears", 8)
        hear(works[3], "done")
        await one.given("ears", 9)
        assert len(one.read("x")) == 1
        while len(one.read("x")) < 20:
            known = len(one.read("x"))
            for work in one.work("ears"):
                hear(work, "done")
            await until(lambda known=known: len(one.read("x")) > known)  # type: ignore[misc]
        assert len((await one.joined())[0].split("\n")) == 20


@play
async def test_what_fails_is_named_and_the_rest_is_given_up(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x", said("a"), said("b", sound(b"1"), sound(b"2")))
        one.ask("y")
        first, second, other = await one.given("ears", 3)
        fail(second, InvalidMedia("no sound", param="media"))
        end = await one.failed("x")
        assert (end.code, end.param) == ("invalid_media", "messages")
        assert end.message == "messages[1].content[2]: no sound"
        await until(lambda: first.cancelled)
        assert not other.cancelled
        hear(other, "so")
        await one.given("writer")
        assert one.journal.failures == {"invalid_media": 1}


@pytest.mark.parametrize(
    ("error", "retryable"), [(QueueFull("full", retry_after_s=2.0), True), (KeyError("x"), False)]
)
def test_a_model_that_cannot_be_had_fails_the_request(
    tmp_path: Path, error: Exception, retryable: bool
) -> None:
    @play
    async def scenario(folder: Path) -> None:
        async with room(folder) as one:
            one.shelf.errors["ears"] = error
            one.ask("x")
            end = await one.failed("x")
            assert end.message.startswith("messages[0].content[1]: ")
            assert end.retryable is retryable
            if retryable:
                assert (end.code, end.retry_after_s) == ("queue_full", 2.0)
            assert not one.work("writer")

    scenario(tmp_path)


@play
async def test_nothing_is_loaded_on_demand_where_that_is_off(tmp_path: Path) -> None:
    async with room(tmp_path, on_demand=False) as one:
        one.ask("x")
        end = await one.failed("x")
        assert (end.code, end.retryable) == ("not_loaded", True)
        assert end.message.startswith("messages[0].content[1]: ears is not in memory")


@pytest.mark.parametrize("stage", ["admitted", "loading", "reading", "joined", "writing"])
def test_a_cancelled_request_ends_once_wherever_it_stands(tmp_path: Path, stage: str) -> None:
    @play
    async def scenario(folder: Path) -> None:
        async with room(folder) as one:
            gates = {name: one.shelf.held_back(name) for name in ("ears", "writer")}
            ticket = one.ask("x")
            if stage == "admitted":
                asyncio.get_running_loop().call_soon(ticket.cancel)
            if stage == "loading":
                await until(lambda: one.shelf.opened == ["ears"])
            if stage in ("reading", "joined", "writing"):
                gates["ears"].set()
                (heard,) = await one.given("ears")
            if stage in ("joined", "writing"):
                hear(heard, "so")
                await until(lambda: one.shelf.opened == ["ears", "writer"])
            if stage == "writing":
                gates["writer"].set()
                (written,) = await one.given("writer")
            if stage != "admitted":
                ticket.cancel()
            if stage == "writing":
                assert written.cancelled
                written.emit(Finished.cancelled("x"))
            end = await one.end("x")
            assert isinstance(end, Finished)
            assert end.reason is FinishReason.CANCELLED
            if stage == "reading":
                assert heard.cancelled

    scenario(tmp_path)


@play
async def test_a_deadline_holds_for_the_whole(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.shelf.held_back("writer")
        one.ask("x", deadline_s=10.0)
        (heard,) = await one.given("ears")
        assert heard.request.deadline_s == 10.0
        one.shelf.clock.advance(11.0)
        hear(heard, "so")
        end = await one.failed("x")
        assert (end.code, end.param) == ("deadline_exceeded", "deadline_s")
        assert end.message.startswith("writer was not loaded 11 s after admission")


@play
async def test_a_deadline_counts_while_the_first_model_loads(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.shelf.held_back("ears")
        one.ask("x", deadline_s=0.02)
        end = await one.failed("x")
        assert (end.code, end.param) == ("deadline_exceeded", "deadline_s")
        assert end.message.startswith("messages[0].content[1]: ears was not loaded")


@play
async def test_the_priority_is_that_of_the_request(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x", priority=Priority.BATCH, traceparent="00-1")
        (heard,) = await one.given("ears")
        assert heard.request.priority is Priority.BATCH
        assert heard.request.traceparent == "00-1"
        assert heard.request.request_id == "x/messages[0].content[1]"
        assert heard.request.keep_alive_s is None


@play
async def test_both_models_take_turns_where_there_is_room_for_one(tmp_path: Path) -> None:
    async with room(tmp_path, budget=1) as one:
        one.ask("x")
        (heard,) = await one.given("ears")
        hear(heard, "so")
        await one.given("writer")
        assert one.shelf.opened == ["ears", "writer"]


@play
async def test_where_the_context_is_too_short_it_is_told_what_is_in_it(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x")
        (heard,) = await one.given("ears")
        hear(heard, "so")
        (work,) = await one.given("writer")
        fail(work, ContextExceeded("9 tokens are more than 8", figures={"prompt_tokens": 9}))
        end = await one.failed("x")
        assert end.message == (
            "9 tokens are more than 8 (the prompt has in it what was made of one medium)"
        )
        assert end.figures == {"prompt_tokens": 9, "media": 1}


@pytest.mark.parametrize(
    ("models", "kind", "settings", "told"),
    [
        (("writer",), "audio/wav", {}, "a model that transcribes sound is missing here"),
        (("writer", "ears"), "video/mp4", {}, "a model that makes text of it is missing here"),
        (
            ("writer", "ears"),
            "audio/wav",
            {"speech_model": "gone"},
            "a model that transcribes sound is missing here: media.speech_model names 'gone'",
        ),
        (
            ("writer", "ears"),
            "audio/wav",
            {"speech_model": "writer"},
            "a model that transcribes sound is missing here: media.speech_model names 'writer'",
        ),
        (
            ("writer", "ears", "more ears"),
            "audio/wav",
            {},
            "media.speech_model has to say which of these transcribes sound: ears, more ears",
        ),
        (
            ("writer", "ears"),
            "audio/wav",
            {"join": False},
            "ears transcribes sound: ask it first, and say what it found",
        ),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, models: tuple[str, ...], kind: str, settings: dict[str, Any], told: str
) -> None:
    @play
    async def scenario(folder: Path) -> None:
        async with room(folder, *models, media=MediaSettings(**settings)) as one:
            one.ask("x", said("a"), said(sound(kind=kind, place="turns[3]")))
            end = await one.failed("x")
            assert (end.code, end.param) == ("invalid_parameter", "turns[3]")
            assert end.message == (f"turns[3]: this model reads text, and takes no {kind}; {told}")
            assert one.shelf.opened == []

    scenario(tmp_path)


@play
async def test_the_configured_model_is_taken_by_an_alias_too(tmp_path: Path) -> None:
    settings = MediaSettings(speech_model="hearing")
    async with room(tmp_path, "writer", "ears", "more ears", media=settings) as one:
        one.shelf.residency.catalogue.alias("hearing", "more ears")
        one.ask("x")
        await one.given("more ears")
        assert not one.work("ears")


@play
async def test_so_many_media_and_no_more(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x", said(*[sound()] * (MAX_MEDIA + 1)))
        assert (await one.failed("x")).message.startswith("the number of media")


@play
async def test_a_reader_that_takes_nothing_loses_its_stream(tmp_path: Path) -> None:
    async with room(tmp_path, max_untaken=3) as one:
        one.ask("x", said(*[sound()] * 8))
        (heard,) = await one.given("ears")
        hear(heard, "so")
        assert (await one.failed("x")).code == "slow_consumer"
        assert not one.work("writer")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("[Audio {n}]", "media.audio_template has no {transcript} in it"),
        ("{transcript", "media.audio_template: "),
        ("{caption} {transcript}", "{caption} is no placeholder; there are {n} and {transcript}"),
        ("{n.real} {transcript}", "{n.real} is no placeholder"),
        ("{transcript:>9999999}", "{transcript:>9999999} is no placeholder"),
        ("{transcript!r}", "{transcript!r} is no placeholder"),
        ("{} {transcript}", "{} is no placeholder"),
        ("{transcript}" + "x" * 5000, "has 5012 characters"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_at_the_start(
    tmp_path: Path, template: str, told: str
) -> None:
    @play
    async def scenario(folder: Path) -> None:
        with pytest.raises(ConfigInvalid) as caught:
            async with room(folder, media=MediaSettings(audio_template=template)):
                raise AssertionError("it was taken")
        assert told in caught.value.message
        assert "media.audio_template" in caught.value.message

    scenario(tmp_path)


@play
async def test_a_load_that_fails_is_told_by_place(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.shelf.errors["ears"] = BundleInvalid("torn")
        one.ask("x")
        end = await one.failed("x")
        assert (end.code, end.message) == ("bundle_invalid", "messages[0].content[1]: torn")


@play
async def test_what_was_taken_is_read_while_no_more_is_taken(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x")
        (heard,) = await one.given("ears")
        draining = asyncio.create_task(one.intake.drain(10.0))
        one.intake._check_open = _refuse
        hear(heard, "so")
        (work,) = await one.given("writer")
        finish(work)
        await draining
        assert isinstance(await one.end("x"), Finished)


@play
async def test_a_prompt_is_read_with_them(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        chat = Chat(messages=(said("Listen:", sound()),))
        asking = asyncio.create_task(one.intake.joined("writer", chat))
        (heard,) = await one.given("ears")
        hear(heard, "so")
        read = await asking
        assert isinstance(read, Chat)
        assert [message.text for message in read.messages] == ["Listen:\n[Audio 1: so]"]
        plain = Chat(messages=(said("hi"),))
        assert await one.intake.joined("writer", plain) is plain
        other = Chat(messages=(said(sound(kind="image/png")),))
        with pytest.raises(InvalidParameter, match="captions pictures is missing"):
            await one.intake.joined("writer", other)


def _refuse() -> None:
    raise NsedgeError("no more")
