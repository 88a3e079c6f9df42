"""Requests over the wire and back, without sockets."""

from __future__ import annotations

import dataclasses
import typing

import msgspec
import pytest

from nsedge import api
from nsedge.api.sampling import MAX_SEED
from nsedge.api.scheduling import SchedulingFields
from nsedge.api.tasks import ChatFields, TranscribeFields
from nsedge.errors import InvalidParameter, InvalidRequest, NsedgeError, UnsupportedVersion
from nsedge.ipc import messages as wire
from nsedge.ipc import protocol
from nsedge.ipc.requests import check_known, check_readable, encode_request, request_of

REQUESTS = [
    api.Request(
        request_id="h",
        model="m",
        task=api.Generate(text="Once", constraint=api.Constraint.choice(["a", "ü"])),
    ),
    api.Request(
        request_id="i",
        model="m",
        task=api.Chat(messages=(), constraint=api.Constraint.json_schema({"type": "integer"})),
    ),
    api.Request(request_id="a", model="m", task=api.Generate(text="Once"), traceparent="t"),
    api.Request(
        request_id="b",
        model="m",
        task=api.Chat(
            messages=(
                api.Message(role=api.Role.SYSTEM, content="Be brief."),
                api.Message(role=api.Role.USER, content="Hi"),
            ),
            sampling=api.Sampling(
                temperature=0.5,
                top_k=3,
                logit_bias={7: -2.5},
                seed=MAX_SEED,
                stop=("x", "y"),
                max_tokens=5,
                ignore_eos=True,
            ),
        ),
        priority=api.Priority.BATCH,
        deadline_s=2.5,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    api.Request(
        request_id="c",
        model="m",
        task=api.Embed(inputs=("one", (1, 2**31 - 1), "two"), dimensions=64, truncate=True),
        keep_alive_s=3.0,
    ),
    api.Request(request_id="d", model="m", task=api.Embed(inputs=("one",))),
    api.Request(
        request_id="f",
        model="m",
        task=api.Embed(
            inputs=(
                "one",
                api.Media(type="image/png", data=b"png"),
                (7,),
                api.Media(type="image/x-raw", data=b"x" * 12, shape=(2, 2, 3), dtype="uint8"),
            )
        ),
    ),
    api.Request(
        request_id="g",
        model="m",
        task=api.Classify(
            inputs=("one", api.Media(type="image/png", data=b"png")),
            labels=("a", "b"),
            prompt="some {}",
        ),
    ),
    api.Request(
        request_id="t",
        model="m",
        task=api.Transcribe(
            media=api.Media(type="audio/wav", data=b"RIFF"),
            language="de",
            translate=True,
            prompt="So",
            temperatures=(0.5, 1.0),
            best_of=2,
            seed=MAX_SEED,
            word_timestamps=True,
            condition_on_previous=False,
            vad=False,
            max_compression_ratio=None,
            min_logprob=-2.5,
            max_no_speech_prob=0.5,
        ),
    ),
    api.Request(
        request_id="p",
        model="m",
        task=api.Caption(
            media=api.Media(type="image/png", data=b"png"),
            prompt="a photo of",
            sampling=api.Sampling(max_tokens=7),
            constraint=api.Constraint.choice(["a cat", "a dog"]),
        ),
    ),
    api.Request(
        request_id="x",
        model="m",
        task=api.Generate(
            text="a",
            suffix="b",
            extra_files=(api.ExtraFile(name="x.py", text="x"), api.ExtraFile(name="y", text="")),
        ),
    ),
    api.Request(
        request_id="e",
        model="m",
        task=api.Chat(
            messages=(
                api.Message(role=api.Role.USER, content="Hi", name="ada"),
                api.Message(
                    role=api.Role.ASSISTANT,
                    content="",
                    reasoning="Hm.",
                    tool_calls=(api.ToolCall(id="c", name="sun", arguments="{}"),),
                ),
                api.Message(role=api.Role.TOOL, content="6", tool_call_id="c", name="sun"),
            ),
            tools=(api.Tool(function={"name": "sun", "parameters": {"a": [1]}}, strict=True),),
            tool_choice=api.ToolChoice.REQUIRED,
            tool_name="sun",
            parallel_tool_calls=False,
            documents=({"title": "t"},),
            template_arguments={"enable_thinking": False},
            reasoning_effort="low",
            add_generation_prompt=False,
            split_reasoning=True,
        ),
    ),
]


def given(part: wire.MediaPart) -> api.Media:
    """Media as they stand in their part."""
    assert part.data is not None
    return api.Media(type=part.media_type, data=part.data, shape=part.shape, dtype=part.dtype)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.request_id)
def test_requests_survive_the_wire(request_: api.Request) -> None:
    message = protocol.decode_data(encode_request(request_, credit=99))
    assert isinstance(message, wire.Asking)
    assert message.credit == 99
    assert request_of(message, given) == request_


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (api.Request(request_id="", model="m", task=api.Generate(text="x")), InvalidRequest),
        (api.Request(request_id="a", model="", task=api.Generate(text="x")), InvalidRequest),
        (
            api.Request(request_id="a", model="m", task=api.Generate(text="\ud800")),
            InvalidRequest,
        ),
        (
            api.Request(
                request_id="a",
                model="m",
                task=api.Generate(text="x", sampling=api.Sampling(seed=2**64)),
            ),
            InvalidParameter,
        ),
        (
            api.Request(request_id="a", model="m", task=api.Generate(text="x"), deadline_s=-1.0),
            InvalidParameter,
        ),
    ],
)
def test_what_cannot_be_written_is_refused(request_: api.Request, error: type[NsedgeError]) -> None:
    with pytest.raises(error):
        encode_request(request_)


def test_what_clients_of_an_older_minor_cannot_read_is_refused_them() -> None:
    for request in REQUESTS:
        message = protocol.decode_data(encode_request(request))
        assert isinstance(message, wire.Asking)
        check_readable(message, 6)
        if isinstance(message, wire.Caption):
            with pytest.raises(UnsupportedVersion, match=r"caption needs protocol 1\.6.* 1\.5"):
                check_readable(message, 5)
            continue
        check_readable(message, 5)
        if isinstance(message, wire.Transcribe | wire.Classify):
            with pytest.raises(UnsupportedVersion, match=r"[a-z]+ needs protocol 1\.5.* 1\.4"):
                check_readable(message, 4)
            continue
        check_readable(message, 4)
        if isinstance(message, wire.Chat) and message.tools:
            with pytest.raises(UnsupportedVersion, match=r"needs protocol 1\.4.* said 1\.3"):
                check_readable(message, 3)
            continue
        if not isinstance(message, wire.Embed):
            check_readable(message, 0)
            continue
        with pytest.raises(UnsupportedVersion, match=r"embed needs protocol 1\.3.* said 1\.2"):
            check_readable(message, 2)


def test_what_a_daemon_would_pass_over_is_not_sent_to_it() -> None:
    held = api.Generate(text="Once", constraint=api.Constraint.json_object())
    for task, version, passes in (
        (held, "1.4", True),
        (held, "1.10", True),
        (held, "1.3", False),
        (api.Generate(text="Once", sampling=api.Sampling(top_n_sigma=1.0)), "1.3", False),
        (api.Chat(messages=(), sampling=api.Sampling(bad_words=("x",))), "1.3", False),
        (api.Chat(messages=(), sampling=api.Sampling(xtc=api.Xtc(probability=0.5))), "1.4", True),
        (api.Generate(text="Once", sampling=api.Sampling(top_k=3, seed=1)), "1.3", True),
        (api.Generate(text="Once"), "1.0", True),
        (api.Generate(text="Once", sampling=api.Sampling(beams=2)), "1.4", True),  # it refuses
    ):
        request = api.Request(request_id="a", model="m", task=task)
        if passes:
            check_known(request, version)
        else:
            with pytest.raises(UnsupportedVersion, match=r"1\.4, not 1\.3"):
                check_known(request, version)


def test_beams_are_not_sent_to_a_daemon_that_would_pass_over_them() -> None:
    task = api.Generate(text="Once", sampling=api.Sampling(beams=2, early_stopping="never"))
    request = api.Request(request_id="a", model="m", task=task)
    with pytest.raises(UnsupportedVersion, match=r"beams needs .* 1\.6, not 1\.3"):
        check_known(request, "1.3")
    message = protocol.decode_data(encode_request(request))
    assert isinstance(message, wire.Generate)
    assert message.sampling == task.sampling


@pytest.mark.parametrize(
    ("task", "since"),
    [
        (api.Transcribe(media=api.Media(type="audio/wav", data=b"x")), 5),
        (api.Caption(media=api.Media(type="image/png", data=b"x")), 6),
    ],
    ids=["transcribe", "caption"],
)
def test_what_is_about_media_is_not_asked_of_a_daemon_that_does_not_do_it(
    task: api.Task, since: int
) -> None:
    request = api.Request(request_id="a", model="m", task=task)
    check_known(request, f"1.{since}")
    wanted = rf"{task.name} needs a daemon of protocol 1\.{since}, not 1\.{since - 1}"
    with pytest.raises(UnsupportedVersion, match=wanted):
        check_known(request, f"1.{since - 1}")


def test_transcripts_are_asked_for_the_same_everywhere() -> None:
    fields = {field.name: field for field in dataclasses.fields(api.Transcribe)}
    own = set(SchedulingFields.__annotations__)
    assert set(typing.get_type_hints(TranscribeFields)) - own == set(fields) - {"media"}
    of_all = {field.name for field in msgspec.structs.fields(wire.Asked)}
    said = {field.name: field for field in msgspec.structs.fields(wire.Transcribe)}
    assert fields.keys() == said.keys() - of_all
    for name in fields.keys() - {"media"}:
        assert said[name].default == fields[name].default


def test_captions_are_asked_for_the_same_everywhere() -> None:
    fields = {field.name for field in dataclasses.fields(api.Caption)}
    of_all = {field.name for field in msgspec.structs.fields(wire.Asked)}
    assert fields == {field.name for field in msgspec.structs.fields(wire.Caption)} - of_all


def test_media_as_inputs_and_frames_are_not_sent_to_daemons_that_cannot_read_them() -> None:
    picture = api.Media(type="image/png", data=b"png")
    frame = api.Media(type="image/x-raw", data=b"xxx", shape=(1, 1, 3), dtype="uint8")
    for task, passes in (
        (api.Embed(inputs=("one",)), True),
        (api.Embed(inputs=("one", picture)), False),
        (shown(picture), True),
        (shown(frame), False),
    ):
        request = api.Request(request_id="a", model="m", task=task)
        check_known(request, "1.5")
        if passes:
            check_known(request, "1.4")
        else:
            with pytest.raises(UnsupportedVersion, match=r"1\.5, not 1\.4"):
                check_known(request, "1.4")


def shown(media: api.Media) -> api.Chat:
    parts = (api.TextPart(text="see"), api.MediaPart(media=media))
    return api.Chat(messages=(api.Message(role=api.Role.USER, content=parts),))


def test_chats_are_asked_for_the_same_everywhere() -> None:
    fields = {field.name: field for field in dataclasses.fields(api.Chat)}
    own = set(SchedulingFields.__annotations__)
    assert set(typing.get_type_hints(ChatFields)) - own == set(fields) - {"messages", "sampling"}
    said = {field.name for field in msgspec.structs.fields(wire.Chat)}
    assert fields.keys() == said - {field.name for field in msgspec.structs.fields(wire.Asked)}


def test_scheduling_is_said_the_same_everywhere() -> None:
    names = [field.name for field in dataclasses.fields(api.Scheduling)]
    assert list(typing.get_type_hints(SchedulingFields)) == names
    said = {field.name: field.default for field in msgspec.structs.fields(wire.Asked)}
    meant = {field.name: field.default for field in dataclasses.fields(api.Scheduling)}
    assert meant.items() <= said.items()
