"""Questions about prompts and models: the model is there while its tokenizer works."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nsedge.api import Generate, ModelCard, PromptQuestion
from nsedge.api.prompts import MAX_DETOKENIZED
from nsedge.core.questions import Questions
from nsedge.errors import (
    BundleInvalid,
    InvalidParameter,
    NotLoaded,
    Unavailable,
    UnknownModel,
    UnsupportedTask,
)
from tests.ipc import until
from tests.unit.bundles import TEMPLATE
from tests.unit.core.test_intake import door, play
from tests.unit.shelf import Shelf


def about(model: str, text: str = "hi") -> PromptQuestion:
    return PromptQuestion(model=model, task=Generate(text=text))


@contextlib.asynccontextmanager
async def asked(shelf: Shelf, **options: object) -> AsyncIterator[Questions]:
    async with door(shelf, **options) as one:
        with ThreadPoolExecutor(1) as reader:
            yield Questions(
                intake=one.intake,
                reader=reader,
                media_reader=reader,
                find=shelf.residency.catalogue.find,
            )


@play
async def test_a_model_on_disk_is_loaded_for_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, {"a": 1})
    async with asked(shelf) as questions:
        read = await questions.read_prompt(about("a"))
        assert (read.text, read.token_ids) == ("hi", (104, 105))
        assert await questions.detokenize("a", (104, 105)) == "hi"
        assert shelf.opened == ["a"]
        assert not shelf.entry("a").resident.users  # type: ignore[union-attr]


@play
async def test_what_cannot_be_asked(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, {"a": 1, "b": 1})
    async with asked(shelf, on_demand=False) as questions:
        with pytest.raises(UnknownModel):
            await questions.read_prompt(about("none"))
        with pytest.raises(NotLoaded):
            await questions.read_prompt(about("a"))
        for tokens in ((-1,), (2**31,), (0,) * (MAX_DETOKENIZED + 1)):
            with pytest.raises(InvalidParameter):
                await questions.detokenize("a", tokens)
        await shelf.load("a")
        shelf.models[0].prompts = None
        with pytest.raises(UnsupportedTask, match="a reads no prompts"):
            await questions.read_prompt(about("a"))
        assert not shelf.entry("a").resident.users  # type: ignore[union-attr]


@play
async def test_a_load_that_fails_is_told(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, {"a": 1})
    shelf.errors["a"] = BundleInvalid("broken")
    async with asked(shelf) as questions:
        with pytest.raises(BundleInvalid, match="broken"):
            await questions.read_prompt(about("a"))


@play
async def test_the_model_stays_until_it_is_answered_or_has_to_leave(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, {"a": 1})
    async with asked(shelf) as questions:
        resident = await shelf.load("a")
        prompts = shelf.models[0].prompts
        assert prompts is not None
        prompts.gate.clear()
        question = asyncio.create_task(questions.read_prompt(about("a")))
        await until(lambda: bool(resident.users))
        await shelf.residency.unload(shelf.entry("a"), drain_s=0.0)
        with pytest.raises(Unavailable, match="was unloaded"):
            await question
        prompts.gate.set()
        assert not resident.users


@play
async def test_a_card_of_a_model_on_disk_and_of_its_adapter(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, {"a": 1})
    async with asked(shelf) as questions:
        shelf.add_adapter("a", "x", 1)
        shelf.residency.catalogue.look()
        card = await questions.describe("a")
        assert (card.name, card.kind, card.context_tokens) == ("a", "causal-lm", 64)
        assert (card.chat_template, card.vocab_size) == (TEMPLATE, 300)
        assert card.bytes > 0
        assert card.defaults["temperature"] >= 0
        adapter = await questions.describe("a:x")
        assert (adapter.name, adapter.architecture) == ("a:x", card.architecture)
        assert (adapter.chat_template, adapter.sha256 == card.sha256) == (TEMPLATE, False)
        with pytest.raises(UnknownModel):
            await questions.describe("none")
        (tmp_path / "a" / "chat_template.jinja").unlink()
        with pytest.raises(BundleInvalid, match="a cannot be read"):
            await questions.describe("a")
        assert isinstance(card, ModelCard)
        assert shelf.opened == []
