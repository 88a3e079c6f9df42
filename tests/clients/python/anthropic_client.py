"""Anthropic's Python client: its README's examples."""

import asyncio
import json

import anthropic
from anthropic import Anthropic, AsyncAnthropic
from checking import HI, MODEL, URL, raised, run

client = Anthropic(base_url=URL, api_key="none", max_retries=0)
GREEDY = {"model": MODEL, "max_tokens": 24, "messages": HI, "extra_body": {"temperature": 0}}


def message() -> None:
    told = client.messages.create(**GREEDY)
    assert told.content[0].type == "text"
    assert "Paris" in told.content[0].text
    assert told.stop_reason in ("end_turn", "max_tokens")
    assert told.usage.input_tokens + told.usage.cache_read_input_tokens > 0
    assert told.usage.output_tokens > 0
    assert told._request_id


def streamed() -> None:
    whole = client.messages.create(**GREEDY)
    with client.messages.stream(**GREEDY) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def raw_events() -> None:
    kinds = [event.type for event in client.messages.create(**GREEDY, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


def a_conversation_with_a_system() -> None:
    told = client.messages.create(
        **{
            **GREEDY,
            "system": [{"type": "text", "text": "You answer in one word."}],
            "messages": [
                *HI,
                {"role": "assistant", "content": "Paris."},
                {"role": "user", "content": [{"type": "text", "text": "And of Italy?"}]},
            ],
        }
    )
    assert told.content[0].text


def stopped_by_a_string() -> None:
    told = client.messages.create(**GREEDY, stop_sequences=["France"])
    assert (told.stop_reason, told.stop_sequence) == ("stop_sequence", "France")


WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def tools() -> None:
    asked = {
        **GREEDY,
        "max_tokens": 64,
        "tools": [WEATHER],
        "tool_choice": {"type": "tool", "name": "get_weather"},
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    }
    told = client.messages.create(**asked)
    (use,) = [block for block in told.content if block.type == "tool_use"]
    assert (told.stop_reason, use.name) == ("tool_use", "get_weather")
    assert isinstance(use.input["city"], str)
    with client.messages.stream(**asked) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert pieces
    assert [block.input for block in final.content if block.type == "tool_use"] == [use.input]
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "Sunny, 21 degrees."}
    history = [
        *asked["messages"],
        {"role": "assistant", "content": told.content},
        {"role": "user", "content": [result]},
    ]
    after = client.messages.create(**{**GREEDY, "messages": history, "tools": [WEATHER]})
    assert after.content


def structured() -> None:
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 20}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    told = client.messages.create(
        **{**GREEDY, "max_tokens": 64},
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert set(json.loads(told.content[0].text)) == {"capital"}


def counted() -> None:
    count = client.messages.count_tokens(model=MODEL, messages=HI)
    told = client.messages.create(**GREEDY)
    read = told.usage.input_tokens + told.usage.cache_read_input_tokens
    assert count.input_tokens == read


def prefilled() -> None:
    messages = [*HI, {"role": "assistant", "content": "The capital of France is"}]
    told = client.messages.create(**{**GREEDY, "messages": messages})
    assert "Paris" in told.content[0].text


def models() -> None:
    assert MODEL in [one.id for one in client.models.list()]
    assert client.models.retrieve(MODEL).type == "model"


def errors() -> None:
    missing = raised(
        anthropic.NotFoundError, lambda: client.messages.create(**{**GREEDY, "model": "none"})
    )
    assert missing.body["error"]["type"] == "not_found_error"
    assert missing.request_id
    raised(anthropic.BadRequestError, lambda: client.messages.create(**{**GREEDY, "max_tokens": 0}))
    long = raised(
        anthropic.BadRequestError,
        lambda: client.messages.create(
            **{**GREEDY, "messages": [{"role": "user", "content": "word " * 3000}]}
        ),
    )
    assert "prompt is too long" in str(long)


def left_in_mid_stream() -> None:
    with client.messages.stream(**{**GREEDY, "max_tokens": 400}) as stream:
        next(iter(stream.text_stream))
    assert client.messages.create(**GREEDY).content


def side_by_side() -> None:
    async def main() -> None:
        async with AsyncAnthropic(base_url=URL, api_key="none") as other:
            told = await asyncio.gather(*(other.messages.create(**GREEDY) for _ in range(4)))
        assert len({one.content[0].text for one in told}) == 1

    asyncio.run(main())


run(
    message,
    streamed,
    raw_events,
    a_conversation_with_a_system,
    stopped_by_a_string,
    tools,
    structured,
    counted,
    prefilled,
    models,
    errors,
    left_in_mid_stream,
    side_by_side,
)
