"""Aliases over restarts, and beside those of the configuration."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from nsedge.api import ModelInfo
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.errors import InvalidParameter, UnknownModel
from nsedge.runtime.residency.aliases import Aliases
from tests.unit.shelf import Shelf


def said(path: Path, alias: str, model: str | None, configured: dict[str, str]) -> None:
    aliases = Aliases(path, configured)
    aliases.say(alias, model)
    assert aliases.save() is None


def test_what_is_said_holds_over_restarts_until_it_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "state" / "aliases.json"
    said(path, "nick", "a", {})
    assert Aliases(path, {}).current() == {"nick": "a"}
    said(path, "nick", None, {})
    assert Aliases(path, {}).current() == {}
    assert json.loads(path.read_text()) == {"aliases": {}}


def test_the_later_word_counts(tmp_path: Path) -> None:
    path = tmp_path / "aliases.json"
    said(path, "nick", "a", {"nick": "first", "other": "b"})
    assert Aliases(path, {"nick": "first", "other": "b"}).current() == {"nick": "a", "other": "b"}
    assert Aliases(path, {"nick": "second"}).current() == {"nick": "second"}
    assert Aliases(path, {}).current() == {}, "the configuration has taken it away since"


def test_an_alias_of_the_configuration_can_be_taken_away_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "aliases.json"
    said(path, "nick", None, {"nick": "a"})
    assert Aliases(path, {"nick": "a"}).current() == {}
    said(path, "nick", "a", {"nick": "a"})
    assert json.loads(path.read_text()) == {"aliases": {}}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"aliases": {"nick": "a"}}', b'{"more": 1}', b'{"aliases": {"\xff": "a"}}'],
)
def test_a_damaged_file_is_put_aside(tmp_path: Path, content: bytes, caplog) -> None:
    path = tmp_path / "aliases.json"
    path.write_bytes(content)
    assert Aliases(path, {"nick": "a"}).current() == {"nick": "a"}
    assert path.with_suffix(".broken").read_bytes() == content
    assert "aliases are damaged" in caplog.text


def test_an_alias_with_control_characters_is_refused_and_none_is_kept(tmp_path: Path) -> None:
    async def scene() -> None:
        service = LocalService(ServiceSettings(bundles=(), folder=tmp_path))
        for alias in ("a\x1b[31mb", "a\nb", "a\u202eb", ""):
            with pytest.raises(InvalidParameter, match="an alias has"):
                await service.alias(alias, None)

    asyncio.run(scene())
    path = tmp_path / "aliases.json"
    said(path, "a\x1b[31mb", "m", {})
    assert Aliases(path, {}).current() == {}


def test_a_disk_that_takes_nothing_is_a_warning_and_the_alias_holds(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "state").write_text("no directory")
    aliases = Aliases(tmp_path / "state" / "aliases.json", {})
    aliases.say("nick", "a")
    assert aliases.save() == "File exists"
    assert aliases.current() == {"nick": "a"}
    assert "aliases are not being kept" in caplog.text
    (tmp_path / "state").unlink()
    assert aliases.save() is None
    assert "aliases are kept again" in caplog.text


def test_the_service_keeps_what_it_was_told(tmp_path: Path) -> None:
    Shelf(tmp_path / "bundles", {"a": 1, "b": 1})
    settings = ServiceSettings(
        bundles=(),
        folder=tmp_path / "bundles",
        aliases={"nick": "a"},
        aliases_file=tmp_path / "state" / "aliases.json",
    )

    async def told(
        *words: tuple[str, str | None], unkept: str | None = None
    ) -> dict[str, ModelInfo]:
        service = LocalService(settings)
        await service.start()
        try:
            for alias, model in words:
                assert (await service.alias(alias, model)).unkept == unkept
            with pytest.raises(UnknownModel):
                await service.alias("lost", "no-such-model")
            return {one.name: one for one in await service.models()}
        finally:
            await service.stop()

    (tmp_path / "state").write_text("no directory")
    asyncio.run(told(("nick", "b"), unkept="File exists"))
    (tmp_path / "state").unlink()
    asyncio.run(told(("nick", "b"), ("more", "nick")))
    again = asyncio.run(told())
    assert again["b"].aliases == ("more", "nick"), "an alias of an alias is one of the model"
    assert again["a"].aliases == ()
