"""Media in a conversation with a model that reads text: others make texts of them, which stand in
their places."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from nsedge.api import (
    Caption,
    Chat,
    Delta,
    Finished,
    Loading,
    Media,
    MediaPart,
    MediaRead,
    Role,
    TextPart,
    Transcribe,
)
from nsedge.core.media_kinds import MediaSettings
from nsedge.errors import (
    InvalidParameter,
)
from tests.films import animation, number_of
from tests.ipc import until
from tests.unit.core.joining_room import finish, hear, room, said, sound
from tests.unit.core.test_intake import play
from tests.unit.shelf import FakeWork


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


def caption(work: FakeWork, text: str) -> None:
    label = work.request.request_id
    work.emit(Delta(request_id=label, seq=0, text=text, token_ids=(0,)))
    finish(work)


@play
async def test_captions_of_frames_stand_in_the_place_of_a_film(tmp_path: Path) -> None:
    async with room(tmp_path, "writer", "eyes") as one:
        media = Media(type="video/gif", data=animation(6, shown_ms=500))
        film = MediaPart(media=media)
        for label in ("x", "again"):
            one.ask(label, said("Look:", film, "Well?"))
            for number, text in enumerate(("a dog", "two dogs", "no dog") if label == "x" else ()):
                (*_, work) = await one.given("eyes", number + 1)
                assert isinstance(work.request.task, Caption)
                frame = work.request.task.media
                frame.check()
                assert (frame.type, frame.shape) == ("image/x-raw", (48, 64, 3))
                assert number_of(np.frombuffer(frame.data, np.uint8)) == 2 * number
                caption(work, text)
            lines = "0:00 a dog\n0:01 two dogs\n0:02 no dog"
            seen = await one.joined(1 if label == "x" else 2)
            assert seen == [f"Look:\n[Video 1:\n{lines}]\nWell?"]
            finish(one.work("writer")[-1])
            end = await one.end(label)
            assert isinstance(end, Finished)
            assert end.usage.images == 3
            (told,) = one.read(label)
            assert (told.media_type, told.text, told.cached) == ("video/gif", lines, label != "x")


@play
async def test_a_film_that_cannot_be_read_is_told_by_its_place(tmp_path: Path) -> None:
    async with room(tmp_path, "writer", "eyes") as one:
        for data, choice, wrong in (
            (b"no film", {}, "7 bytes are no film in MP4"),
            (animation(3)[:300], {}, "the GIF breaks off"),
            (animation(3), {"frames": 65}, "65 frames; at most 64 are looked at"),
        ):
            part = MediaPart(media=Media(type="video/mp4", data=data), place="video[1]", **choice)
            one.ask(wrong, said(part))
            end = await one.failed(wrong)
            assert end.message.startswith(f"video[1]: {wrong}")
            assert end.param == "video[1]"
        assert not one.work("eyes")


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
