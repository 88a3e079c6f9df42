"""Every event over the wire and back, without sockets."""

from __future__ import annotations

import dataclasses
import typing

import msgpack
import pytest

from nsedge import api
from nsedge.errors import BadMessage, QueueFull
from nsedge.ipc import events, protocol
from nsedge.ipc import messages as wire

USAGE = api.Usage(prompt_tokens=3, completion_tokens=4)
TIMINGS = api.Timings(queue_s=0.5, prefill_s=0.25, decode_s=1.0)
LIKELY = api.Logprobs(
    id=1,
    logprob=-0.5,
    rank=2,
    text="x",
    top=(
        api.TokenLogprob(id=2, logprob=-0.25, text="\\xe2", raw=b"\xe2"),
        api.TokenLogprob(id=0, logprob=-3.0, text="<end>", special=True),
    ),
)
EVENTS = [
    api.Started(request_id="a", prompt_tokens=3, queue_s=0.5),
    api.Delta(request_id="a", seq=7, text="håp 🙂", token_ids=(1, 2)),
    api.PromptLogprobs(
        request_id="a",
        first=0,
        logprobs=(api.Logprobs(id=1, logprob=None, rank=None, text="x"), LIKELY),
    ),
    api.Delta(request_id="a", seq=8, text="x", token_ids=(1,), logprobs=(LIKELY,)),
    api.Finished(
        request_id="a", reason=api.FinishReason.STOP, usage=USAGE, timings=TIMINGS, stop="\n"
    ),
    api.Finished(
        request_id="a",
        reason=api.FinishReason.LENGTH,
        usage=USAGE,
        timings=TIMINGS,
        clipped_max_tokens=9,
    ),
    api.Loading(request_id="a", model="m", state=api.ModelState.LOADING, position=2, progress=0.25),
    api.MediaRead(
        request_id="a",
        place="messages[0].content[1]",
        media_type="audio/wav",
        task="transcribe",
        model="m",
        text="so",
        took_s=0.5,
        audio_s=2.0,
        cached=True,
    ),
    api.ReasoningDelta(request_id="a", seq=7, text="håp 🙂", token_ids=(1, 2)),
    api.ToolCallDelta(
        request_id="a", seq=1, index=2, call_id="c", name="f", arguments="", token_ids=(1,)
    ),
    api.ToolCallDelta(
        request_id="a", seq=2, index=2, call_id=None, name=None, arguments='{"a', token_ids=()
    ),
    api.Vectors(request_id="a", first=4, shape=(2, 1), data=b"\0\0\x80?\0\0\0@"),
    api.Scores(request_id="a", first=0, shape=(1, 2), data=b"\0\0\x80?\0\0\0@"),
    api.Labels(
        request_id="a",
        first=2,
        labels=(
            (api.Label(label="x", score=0.5),),
            (),
            (api.Label(label="PER", score=1.0, start=0, end=5, word="Marta", index=1),),
        ),
    ),
    api.Fillings(
        request_id="a", first=0, masks=(((api.Filling(token_id=7, token="a", score=0.5),), ()),)
    ),
    api.Segment(request_id="a", seq=3, start_s=1.5, end_s=2.0, text="so", final=False),
    api.Segment(request_id="a", seq=4, start_s=0.5, end_s=2.0, text="so it", final=False, stable=2),
    api.Activity(request_id="a", speaking=True, at_s=1.5),
    api.Committed(request_id="a", at_s=2.5),
    api.Picture(
        request_id="a",
        index=1,
        media_type="image/png",
        data=b"png",
        record=api.PictureRecord(
            model="m",
            digest="ab" * 32,
            licence="MIT",
            prompt="a cat",
            negative_prompt="",
            seed=2**64 - 1,
            steps=4,
            guidance=7.5,
            guidance_rescale=0.0,
            scheduler="euler",
            width=64,
            height=32,
        ),
    ),
    api.Preview(request_id="a", index=1, step=4, media_type="image/png", data=b"png"),
    api.Progress(request_id="a", done=3.0, total=None, unit="step"),
    api.ArtifactPending(request_id="a", artifact_id="f", media_type="image/png"),
    api.ArtifactReady(
        request_id="a", artifact_id="f", media_type="image/png", bytes=3, sha256="ab" * 32
    ),
    api.Language(request_id="a", language="de", probability=0.75),
    api.Segment(
        request_id="a",
        seq=1,
        start_s=2.0,
        end_s=3.0,
        text=" Yes.",
        tokens=(1, 2),
        words=(api.Word(text=" Yes.", start_s=2.0, end_s=2.5, probability=0.5),),
    ),
    api.ChoiceFinished(
        request_id="a",
        choice=3,
        reason=api.FinishReason.STOP,
        usage=USAGE,
        timings=TIMINGS,
        cumulative_logprob=-2.5,
    ),
    api.ChoiceFailed(
        request_id="a", choice=3, code="internal", message="broke", retryable=True, param="p"
    ),
    api.Delta(request_id="a", seq=9, text="y", token_ids=(2,), choice=3),
    api.Failed.of("a", QueueFull("full", retry_after_s=1.5)),
    api.Failed.of(None, BadMessage("what?", param="type")),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_survive_the_wire(event: api.Event) -> None:
    message = protocol.decode_server(events.encode_event(event))
    assert isinstance(message, wire.EventMessage)
    assert events.event_of(message) == event


def test_every_kind_of_event_is_tried_and_has_the_fields_of_its_message() -> None:
    assert {type(event) for event in EVENTS} == set(typing.get_args(api.Event))
    assert set(events.OF_EVENT) == set(typing.get_args(api.Event))
    assert set(events.OF_MESSAGE) == set(typing.get_args(wire.EventMessage))
    for kind in events.KINDS:
        names = {field.name for field in dataclasses.fields(kind.event)}
        assert names - {"request_id"} == set(kind.names)


def test_what_1_3_added_to_the_usage_is_left_out_where_it_is_nothing() -> None:
    end = api.Finished(request_id="a", reason=api.FinishReason.STOP, usage=USAGE, timings=TIMINGS)
    said = {"prompt_tokens": 3, "completion_tokens": 4, "cached_tokens": 0}
    assert msgpack.unpackb(events.encode_event(end))["usage"] == said
    heard = dataclasses.replace(end, usage=dataclasses.replace(USAGE, audio_s=2.5))
    assert msgpack.unpackb(events.encode_event(heard))["usage"] == {**said, "audio_s": 2.5}


def test_a_delta_is_a_plain_map() -> None:
    frame = events.encode_event(EVENTS[1])
    assert msgpack.unpackb(frame) == {
        "type": "delta",
        "id": "a",
        "seq": 7,
        "text": "håp 🙂",
        "token_ids": [1, 2],
    }


def test_of_log_probabilities_the_rare_is_left_out() -> None:
    first = api.Logprobs(id=1, logprob=None, rank=None, text="x")
    delta = api.Delta(request_id="a", seq=0, text="xx", token_ids=(1, 1), logprobs=(first, LIKELY))
    assert msgpack.unpackb(events.encode_event(delta))["logprobs"] == [
        {"id": 1, "logprob": None, "rank": None, "text": "x"},
        {
            "id": 1,
            "logprob": -0.5,
            "rank": 2,
            "text": "x",
            "top": [
                {"id": 2, "logprob": -0.25, "text": "\\xe2", "raw": b"\xe2"},
                {"id": 0, "logprob": -3.0, "text": "<end>", "special": True},
            ],
        },
    ]


def test_joined_deltas_keep_all_log_probabilities() -> None:
    deltas = [
        api.Delta(request_id="a", seq=seq, text="x", token_ids=(1,), logprobs=(LIKELY,))
        for seq in range(3)
    ]
    assert events.merge(deltas).logprobs == (LIKELY,) * 3


def test_deltas_merge() -> None:
    deltas = [
        api.Delta(request_id="a", seq=seq, text=text, token_ids=ids)
        for seq, text, ids in ((4, "x", (1,)), (5, "", ()), (6, "yz", (2, 3)))
    ]
    assert events.merge(deltas) == api.Delta(request_id="a", seq=4, text="xyz", token_ids=(1, 2, 3))
    assert events.merge(deltas[:1]) is deltas[0]


def test_only_their_like_continue_deltas() -> None:
    said = api.Delta(request_id="a", seq=0, text="x", token_ids=(1,))
    thought = api.ReasoningDelta(request_id="a", seq=1, text="y", token_ids=(2,))
    first = api.ToolCallDelta(
        request_id="a", seq=2, index=0, call_id="c", name="f", arguments="", token_ids=(3,)
    )
    more = dataclasses.replace(first, seq=3, call_id=None, name=None, arguments="{}")
    other = dataclasses.replace(more, index=1)
    every = (said, thought, first, more, other)
    continuing = {
        (a.seq, b.seq, a is other) for a in every for b in every if events.continues(a, b)
    }
    alike = {(0, 0, False), (1, 1, False), (2, 3, False), (3, 3, False), (3, 3, True)}
    assert continuing == alike
    assert events.merge([thought, thought]).token_ids == (2, 2)
    whole = dataclasses.replace(first, arguments="{}{}", token_ids=(3, 3, 3))
    assert events.merge([first, more, more]) == whole


def test_deltas_of_two_choices_stay_apart() -> None:
    one = api.Delta(request_id="a", seq=0, text="x", token_ids=(1,), choice=1)
    assert events.continues(one, dataclasses.replace(one, seq=1))
    assert not events.continues(one, dataclasses.replace(one, seq=1, choice=2))
    assert events.merge([one, one]).choice == 1


def test_errors_keep_their_class() -> None:
    failure = events.failed_of("a", QueueFull("full", retry_after_s=2.0))
    error = events.error_of(failure)
    assert type(error) is QueueFull
    assert (error.message, error.retry_after_s) == ("full", 2.0)
