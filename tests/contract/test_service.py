"""What every `Service` does, whoever implements it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import numpy as np
import pytest

from nsedge import api
from nsedge.api.stream import EventStream
from tests.contract.scenarios import Record, asking, endless, over_every_subject
from tests.contract.subjects import EVERYTHING, Subject
from tests.ipc import PATIENCE_S, gathered, text_of, until


@over_every_subject
async def test_a_request_runs_its_course(subject: Subject) -> None:
    record = Record(subject, asking(subject))
    end = await record.end()
    started, *deltas = record.events[:-1]
    assert isinstance(started, api.Started)
    assert started.prompt_tokens > 0
    assert started.queue_s >= 0
    assert all(isinstance(delta, api.Delta) for delta in deltas)
    seqs = [delta.seq for delta in deltas if isinstance(delta, api.Delta)]
    assert seqs == sorted(set(seqs))
    assert seqs[0] == 0
    assert isinstance(end, api.Finished)
    assert end.reason is api.FinishReason.LENGTH
    assert end.usage == api.Usage(prompt_tokens=started.prompt_tokens, completion_tokens=5)
    ids = [n for delta in deltas if isinstance(delta, api.Delta) for n in delta.token_ids]
    assert len(ids) == 5
    assert {event.request_id for event in record.events} == {"a"}


@over_every_subject
async def test_several_choices_share_a_prompt_and_an_end(subject: Subject) -> None:
    sampling = api.Sampling(n=3, seed=5, max_tokens=4, ignore_eos=True, logprobs=1)
    record = Record(subject, asking(subject, sampling=sampling))
    end = await record.end()
    assert isinstance(end, api.Finished)
    started = [event for event in record.events if isinstance(event, api.Started)]
    ends = [event for event in record.events if isinstance(event, api.ChoiceFinished)]
    assert [one.prompt_tokens for one in started] == [end.usage.prompt_tokens]
    assert sorted(one.choice for one in ends) == [0, 1, 2]
    assert end.usage.completion_tokens == 12
    for choice in range(3):
        own = [
            event
            for event in record.events
            if isinstance(event, api.Delta | api.ChoiceFinished) and event.choice == choice
        ]
        *deltas, last = own
        told = [
            one.logprob or 0.0 for d in deltas if isinstance(d, api.Delta) for one in d.logprobs
        ]
        assert isinstance(last, api.ChoiceFinished)
        assert (last.reason, last.usage.completion_tokens) == (api.FinishReason.LENGTH, 4)
        assert last.cumulative_logprob == pytest.approx(sum(told))
        assert len(told) == 4


@over_every_subject
async def test_choices_are_cancelled_together(subject: Subject) -> None:
    record = Record(subject, asking(subject, sampling=api.Sampling(n=128, ignore_eos=True)))
    await until(lambda: any(isinstance(event, api.Delta) for event in record.events))
    record.ticket.cancel()
    end = await record.end()
    assert isinstance(end, api.Finished)
    assert end.reason is api.FinishReason.CANCELLED


@over_every_subject
async def test_the_prompt_is_told_where_asked(subject: Subject) -> None:
    sampling = api.Sampling(max_tokens=1, prompt_logprobs=2)
    record = Record(subject, asking(subject, sampling=sampling))
    end = await record.end()
    assert isinstance(end, api.Finished)
    events = [event for event in record.events if isinstance(event, api.PromptLogprobs)]
    told = [one for event in events for one in event.logprobs]
    assert len(told) == end.usage.prompt_tokens
    assert "".join(one.text for one in told) == subject.text
    assert [one.logprob is None for one in told] == [True] + [False] * (len(told) - 1)
    assert all(len(one.top) == 2 for one in told[1:])


@over_every_subject
async def test_a_conversation_is_continued(subject: Subject) -> None:
    request = api.Request(
        request_id="a",
        model=subject.model,
        task=api.Chat(
            messages=(api.Message(role=api.Role.USER, content=subject.text),),
            sampling=api.Sampling(max_tokens=3, ignore_eos=True),
        ),
    )
    assert isinstance(await Record(subject, request).end(), api.Finished)


def each_task(subject: Subject) -> list[api.Task]:
    few = api.Sampling(max_tokens=3, ignore_eos=True)
    turn = api.Message(role=api.Role.USER, content=subject.text)
    return [
        api.Generate(text=subject.text, sampling=few),
        api.Chat(messages=(turn,), sampling=few),
        api.Embed(inputs=(subject.text, (1, 2, 3))),
    ]


@over_every_subject
async def test_a_model_does_its_tasks_and_refuses_the_others(subject: Subject) -> None:
    models = {model.name: model for model in await subject.service.models()}
    for task in each_task(subject):
        request = api.Request(request_id="a", model=subject.model, task=task)
        record = Record(subject, request)
        end = await record.end()
        if task.name in models[subject.model].tasks:
            assert isinstance(end, api.Finished)
        else:
            assert record.events == [end]
            assert isinstance(end, api.Failed)
            assert (end.code, end.param) == ("unsupported_task", "model")


@over_every_subject
async def test_every_input_has_its_vector(subject: Subject) -> None:
    models = {model.name: model for model in await subject.service.models()}
    if "embed" not in models[subject.model].tasks:
        return
    inputs = tuple(f"text {number}" for number in range(5))
    task = api.Embed(inputs=(*inputs, inputs[0]), dimensions=4)
    request = api.Request(request_id="a", model=subject.model, task=task)
    record = Record(subject, request)
    end = await record.end()
    assert isinstance(end, api.Finished)
    assert end.usage.prompt_tokens > 0
    assert end.usage.completion_tokens == 0
    vectors = [event for event in record.events if isinstance(event, api.Vectors)]
    assert [event.first for event in vectors] == list(
        itertools.accumulate((event.shape[0] for event in vectors[:-1]), initial=0)
    )
    rows = np.concatenate([np.frombuffer(v.data, "<f4").reshape(v.shape) for v in vectors])
    assert rows.shape == (6, 4)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert np.array_equal(rows[0], rows[5])
    assert not np.array_equal(rows[0], rows[1])


@over_every_subject
async def test_what_is_wrong_with_inputs_is_named(subject: Subject) -> None:
    wrong: list[tuple[tuple[str | tuple[int, ...], ...], int | None, str]] = [
        ((), None, "inputs"),
        (("a", ""), None, "inputs"),
        (("a", (1, -1)), None, "inputs"),
        (("a",), 0, "dimensions"),
    ]
    for inputs, dimensions, param in wrong:
        task = api.Embed(inputs=inputs, dimensions=dimensions)
        end = await Record(
            subject, api.Request(request_id="a", model=subject.model, task=task)
        ).end()
        assert isinstance(end, api.Failed)
        assert (end.code, end.param) == ("invalid_parameter", param)


@over_every_subject
async def test_every_kind_of_event_comes_as_it_was_given(subject: Subject) -> None:
    if subject.shows is None:
        return
    record = Record(subject, asking(subject, text=subject.shows))
    end = await record.end()
    assert isinstance(end, api.Finished)
    given = [dataclasses.replace(event, request_id="a") for event in EVERYTHING]
    assert record.events[1:-1] == given


@over_every_subject
async def test_a_picture_is_seen_or_refused_by_its_type(subject: Subject) -> None:
    shown = api.MediaPart(media=api.Media(type="image/png", data=b"no real picture"))
    turn = api.Message(role=api.Role.USER, content=(api.TextPart(text=subject.text), shown))
    few = api.Sampling(max_tokens=12, ignore_eos=True)
    task = api.Chat(messages=(turn,), sampling=few)
    record = Record(subject, api.Request(request_id="a", model=subject.model, task=task))
    end = await record.end()
    if isinstance(end, api.Failed):
        assert (end.code, end.param) == ("invalid_parameter", "messages")
        assert "image/png" in end.message
    else:
        assert "image/png" in text_of(record.events)


@over_every_subject
async def test_media_that_are_none_are_refused(subject: Subject) -> None:
    for wrong in (api.Media(type="png", data=b"x"), api.Media(type="image/png", data=b"")):
        turn = api.Message(role=api.Role.USER, content=(api.MediaPart(media=wrong),))
        task = api.Chat(messages=(turn,))
        record = Record(subject, api.Request(request_id="a", model=subject.model, task=task))
        end = await record.end()
        assert isinstance(end, api.Failed)
        assert end.code == "invalid_parameter"


@over_every_subject
async def test_refusals_are_one_event_after_submit(subject: Subject) -> None:
    cases = [
        (asking(subject, model="no-such-model"), "unknown_model", "model"),
        (asking(subject, text=""), "empty_prompt", "prompt"),
        (asking(subject, sampling=api.Sampling(top_p=1.5)), "invalid_parameter", "top_p"),
    ]
    for request, code, param in cases:
        record = Record(subject, request)
        assert record.seen_in_submit == 0
        end = await record.end()
        assert record.events == [end]
        assert isinstance(end, api.Failed)
        assert (end.request_id, end.code, end.param) == ("a", code, param)
        assert not end.retryable
        assert end.message
        record.ticket.cancel()


@over_every_subject
async def test_cancel_at_once(subject: Subject) -> None:
    record = Record(subject, endless(subject))
    record.ticket.cancel()
    record.ticket.cancel()
    end = await record.end()
    assert isinstance(end, api.Finished)
    assert end.reason is api.FinishReason.CANCELLED


@over_every_subject
async def test_cancel_on_the_way(subject: Subject) -> None:
    record = Record(subject, endless(subject))
    await until(lambda: len(record.events) > 3)
    record.ticket.cancel()
    end = await record.end()
    assert isinstance(end, api.Finished)
    assert end.reason is api.FinishReason.CANCELLED
    assert end.usage.completion_tokens > 0
    record.ticket.cancel()


@over_every_subject
async def test_a_reader_that_takes_nothing_is_cut_off(subject: Subject) -> None:
    neighbour = Record(subject, endless(subject, "b"))
    record = Record(subject, endless(subject), takes=False)
    end = await record.end()
    assert isinstance(end, api.Failed)
    assert end.code == "slow_consumer"
    assert not neighbour.ends
    neighbour.ticket.cancel()
    assert isinstance(await neighbour.end(), api.Finished)


@over_every_subject
async def test_streams_do_not_mix(subject: Subject) -> None:
    alone = text_of(await gathered(EventStream(subject.service, greedy(subject, "z"))))
    labels = [f"r{n}" for n in range(8)]
    streams = [EventStream(subject.service, greedy(subject, label)) for label in labels]
    for label, events in zip(labels, await asyncio.gather(*map(gathered, streams)), strict=True):
        assert {event.request_id for event in events} == {label}
        assert text_of(events) == alone


def greedy(subject: Subject, label: str) -> api.Request:
    sampling = api.Sampling(temperature=0.0, max_tokens=12, ignore_eos=True)
    return asking(subject, label, sampling=sampling)


@over_every_subject
async def test_leaving_a_stream_cancels_it(subject: Subject) -> None:
    before = await cancelled(subject)
    async with EventStream(subject.service, endless(subject)) as events:
        await anext(events)
    async with asyncio.timeout(PATIENCE_S):
        while await cancelled(subject) == before:  # noqa: ASYNC110 - only stats can tell
            await asyncio.sleep(0.001)


async def cancelled(subject: Subject) -> int:
    stats = await subject.service.stats()
    return stats.models[subject.model].finished.get("cancelled", 0)


@over_every_subject
async def test_a_deadline_ends_what_is_not_done_by_then(subject: Subject) -> None:
    request = dataclasses.replace(endless(subject), deadline_s=0.05)
    end = await Record(subject, request).end()
    assert isinstance(end, api.Failed)
    assert (end.code, end.retryable, end.param) == ("deadline_exceeded", True, "deadline_s")


@over_every_subject
async def test_a_deadline_that_is_past_already_is_refused(subject: Subject) -> None:
    request = dataclasses.replace(asking(subject), deadline_s=0.0)
    end = await Record(subject, request).end()
    assert isinstance(end, api.Failed)
    assert (end.code, end.param) == ("invalid_parameter", "deadline_s")


@over_every_subject
async def test_every_class_is_served(subject: Subject) -> None:
    for priority in api.Priority:
        request = dataclasses.replace(asking(subject, priority), priority=priority)
        assert isinstance(await Record(subject, request).end(), api.Finished)
