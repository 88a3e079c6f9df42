"""Which model reads a medium of a conversation, and how what it made is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsedge.api import (
    Priority,
)
from nsedge.core.joining import MAX_MEDIA
from nsedge.core.media_kinds import MediaSettings
from nsedge.errors import (
    ConfigInvalid,
)
from tests.unit.core.joining_room import hear, room, said, sound
from tests.unit.core.test_intake import play


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


@pytest.mark.parametrize(
    ("models", "kind", "settings", "told"),
    [
        (("writer",), "audio/wav", {}, "a model that transcribes sound is missing here"),
        (("writer", "ears"), "video/mp4", {}, "a model that captions pictures is missing here"),
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
