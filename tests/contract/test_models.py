"""What every `Service` tells of its models, and does with them."""

from __future__ import annotations

import dataclasses
import math

import pytest

from nsedge import api
from nsedge.errors import InvalidParameter, UnknownModel
from tests.contract.scenarios import Record, asking, over_every_subject
from tests.contract.subjects import Subject


@over_every_subject
async def test_models_health_and_stats(subject: Subject) -> None:
    service = subject.service
    (model,) = [model for model in await service.models() if model.name == subject.model]
    assert model.state is api.ModelState.READY
    assert model.context_tokens > 0
    assert (await service.health()).status is api.HealthStatus.READY
    before = await service.stats()
    await Record(subject, asking(subject)).end()
    after = await service.stats()
    assert after.requests_accepted == before.requests_accepted + 1
    assert after.models[subject.model].slots == model.slots


@over_every_subject
async def test_models_are_loaded_and_unloaded(subject: Subject) -> None:
    service = subject.service
    await service.unload(subject.model)
    assert await service.unload(subject.model) == ()
    wish = api.LoadWish(model=subject.model, keep_alive_s=600.0)
    first, second = await service.load(wish), await service.load(wish)
    assert first.outcome is api.LoadOutcome.LOADED
    assert second.outcome is api.LoadOutcome.ALREADY_LOADED
    assert second.model.state is api.ModelState.READY
    (gone,) = await service.unload(None)
    assert gone.name == subject.model
    assert (await service.reload(subject.model)).state is api.ModelState.READY
    for call in (service.load(api.LoadWish(model="no")), service.unload("no")):
        with pytest.raises(UnknownModel):
            await call
    with pytest.raises(InvalidParameter):
        await service.load(api.LoadWish(model=subject.model, keep_alive_s=-1.0))
    for drain_s in (-1.0, math.nan, math.inf):
        with pytest.raises(InvalidParameter):
            await service.unload(subject.model, drain_s=drain_s)


@over_every_subject
async def test_an_alias_is_a_name(subject: Subject) -> None:
    service = subject.service
    named = await service.alias("nickname", subject.model)
    assert named.model is not None
    assert named.model.aliases == ("nickname",)
    assert named.unkept is None
    end = await Record(subject, asking(subject, model="nickname")).end()
    assert isinstance(end, api.Finished)
    assert await service.alias("nickname", None) == api.AliasResult(model=None)
    end = await Record(subject, asking(subject, "b", model="nickname")).end()
    assert isinstance(end, api.Failed)
    with pytest.raises(UnknownModel):
        await service.alias("nickname", "no-such-model")
    for unreadable in ("a\x1b[31mb", "a\nb"):
        with pytest.raises(InvalidParameter) as refused:
            await service.alias(unreadable, subject.model)
        assert refused.value.param == "alias"


@over_every_subject
async def test_use_is_counted(subject: Subject) -> None:
    await Record(subject, asking(subject)).end()
    report = await subject.service.usage()
    assert report.models[subject.model].usage_count >= 1
    assert len(report.models[subject.model].hours) == 24
    assert [one.model for one in report.recommendations] == [subject.model]


@over_every_subject
async def test_prompts_and_tokens(subject: Subject) -> None:
    service, model = subject.service, subject.model
    asked = api.PromptQuestion(model=model, task=api.Generate(text=subject.text), add_special=False)
    read = await service.read_prompt(asked)
    assert read.text == subject.text
    assert len(read.token_ids) >= 1
    assert read.pieces == ()
    with_pieces = await service.read_prompt(dataclasses.replace(asked, with_pieces=True))
    assert with_pieces.token_ids == read.token_ids
    assert len(with_pieces.pieces) == len(read.token_ids)
    assert all(with_pieces.pieces)
    assert await service.detokenize(model, read.token_ids)
    said = api.Message(role=api.Role.USER, content="hello there")
    chat = api.Chat(messages=(said,))
    told = await service.read_prompt(api.PromptQuestion(model=model, task=chat))
    assert "hello there" in told.text
    assert told.token_ids
    empty = dataclasses.replace(asked, task=api.Generate(text=""))
    assert (await service.read_prompt(empty)).token_ids == ()
    gap = dataclasses.replace(asked, task=api.Generate(text="a", suffix="b"))
    with pytest.raises(InvalidParameter) as caught:
        await service.read_prompt(gap)
    assert caught.value.param == "suffix"
    with pytest.raises(UnknownModel):
        await service.read_prompt(dataclasses.replace(asked, model="none"))
    with pytest.raises(UnknownModel):
        await service.detokenize("none", (1,))
    with pytest.raises(InvalidParameter):
        await service.detokenize(model, (-1,))


@over_every_subject
async def test_a_models_card(subject: Subject) -> None:
    card = await subject.service.describe(subject.model)
    assert card.name == subject.model
    assert card.parameters > 0
    assert len(card.sha256) == 64
    assert card.chat_template
    with pytest.raises(UnknownModel):
        await subject.service.describe("none")
