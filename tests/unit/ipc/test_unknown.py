"""Fields that the protocol does not have: refused by name, as the client's version has it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nsedge.errors import BadMessage, UnsupportedVersion
from nsedge.ipc import messages as wire
from nsedge.ipc import protocol
from nsedge.ipc.unknown import MAX_SHOWN, check_fields
from tests.fakes import MODEL, FakeService
from tests.ipc import RawClient, serving

GENERATE = {"type": "generate", "id": "a", "model": MODEL, "text": "one"}
TURN = {"role": "user", "content": "hi"}
CHAT = {"type": "chat", "id": "a", "model": MODEL, "messages": [TURN]}
MISSPELT: list[tuple[dict[str, Any], str, str]] = [
    ({**GENERATE, "deadline": 5}, "deadline", "; did you mean deadline_s?"),
    ({**GENERATE, "sampling": {"temprature": 0}}, "sampling.temprature", "temperature?"),
    (
        {**GENERATE, "sampling": {"dry": {"multiplier": 1.0, "alowed_length": 3}}},
        "sampling.dry.alowed_length",
        "allowed_length?",
    ),
    (
        {**GENERATE, "constraint": {"kind": "regex", "value": "a", "strict": True}},
        "constraint.strict",
        "",
    ),
    ({**CHAT, "messages": [TURN, {**TURN, "nmae": "x"}]}, "messages[1].nmae", "name?"),
    (
        {**CHAT, "messages": [{**TURN, "content": [{"type": "text", "text": "x", "cache": 1}]}]},
        "messages[0].content[0].cache",
        "",
    ),
    ({**CHAT, "tools": [{"function": {"name": "f"}, "strct": 1}]}, "tools[0].strct", "strict?"),
    ({"type": "embed", "id": "a", "model": MODEL, "inputs": ["x"], "dims": 3}, "dims", ""),
    ({"type": "load", "id": "a", "model": MODEL, "weight": False}, "weight", ""),
    (
        {"type": "read_prompt", "id": "a", "request": {**CHAT, "sampling": {"topp": 1}}},
        "request.sampling.topp",
        "top_p?",
    ),
]


@pytest.mark.parametrize(("payload", "param", "meant"), MISSPELT, ids=[one[1] for one in MISSPELT])
def test_an_unknown_field_is_named_with_its_place(
    payload: dict[str, Any], param: str, meant: str
) -> None:
    message, whole = protocol.decode_data_whole(protocol.pack(payload))
    with pytest.raises(BadMessage) as refused:
        check_fields(whole, type(message))
    assert refused.value.param == param
    assert f"'{param}' is no field of protocol {protocol.VERSION}" in refused.value.message
    assert refused.value.message.endswith(meant)


def test_a_later_client_is_told_of_the_version_and_an_older_one_nothing() -> None:
    payload = {**GENERATE, "sampling": {"of_tomorrow": 1}}
    with pytest.raises(UnsupportedVersion) as refused:
        check_fields(payload, wire.Generate, minor=protocol.MINOR + 1)
    assert refused.value.param == "sampling.of_tomorrow"
    assert f"this client said 1.{protocol.MINOR + 1}" in refused.value.message
    check_fields(payload, wire.Generate, minor=3)


def test_what_is_free_in_form_is_not_looked_into() -> None:
    free = {
        **CHAT,
        "tools": [{"type": "function", "function": {"name": "f", "x-mine": {"a": 1}}}],
        "documents": [{"title": "t", "anything": 1}],
        "template_arguments": {"anything": 1},
        "sampling": {"logit_bias": {5: 1.0}},
    }
    message, whole = protocol.decode_data_whole(protocol.pack(free))
    check_fields(whole, type(message))


def test_a_name_is_shown_only_so_far() -> None:
    with pytest.raises(BadMessage) as refused:
        check_fields({**GENERATE, "x\n" * 5000: 1}, wire.Generate)
    assert len(refused.value.message) < 4 * MAX_SHOWN
    assert "\n" not in refused.value.message


def test_over_zeromq_the_version_that_the_client_said_decides() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            for version, code in (
                (protocol.VERSION, "bad_message"),
                (f"1.{protocol.MINOR + 1}", "unsupported_version"),
            ):
                await client.hello(version)
                await client.generate("a", "one", sampling={"temprature": 0})
                (refused,) = await client.hear_until_end("a")
                assert (refused["code"], refused["param"]) == (code, "sampling.temprature")
                await client.say({"type": "load", "id": "b", "model": MODEL, "now": True})
                refused = await client.hear()
                assert (refused["id"], refused["code"], refused["param"]) == ("b", code, "now")
            await client.hello("1.3")
            await client.generate("a", "one", sampling={"temprature": 0})
            assert (await client.hear_until_end("a"))[-1]["type"] == "finished"

    asyncio.run(scenario())


def test_unknown_fields_of_what_asks_for_nothing_are_passed_over() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            await client.say({"type": "hello", "protocol": protocol.VERSION, "of_tomorrow": 1})
            assert (await client.hear())["type"] == "welcome"
            await client.generate("a", "one", credit=0)
            await client.say({"type": "credit", "id": "a", "bytes": 1000, "of_tomorrow": 1})
            assert (await client.hear_until_end("a"))[-1]["type"] == "finished"

    asyncio.run(scenario())
