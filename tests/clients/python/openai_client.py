"""OpenAI's Python client: its README's examples."""

import openai
from checking import ASKED, EMBEDDINGS, HI, MODEL, URL, raised, run
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
GREEDY = {"model": MODEL, "messages": HI, "max_tokens": 24, "temperature": 0}


def chat() -> None:
    told = client.chat.completions.create(**GREEDY)
    assert "Paris" in told.choices[0].message.content
    assert told.usage.completion_tokens > 0


def streamed() -> None:
    whole = client.chat.completions.create(**GREEDY).choices[0].message.content
    chunks = list(client.chat.completions.create(**GREEDY, stream=True))
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == whole


def vectors() -> None:
    told = client.embeddings.create(model=EMBEDDINGS, input=["a", "b"])
    assert [len(one.embedding) for one in told.data] == [384, 384]


def errors() -> None:
    missing = raised(
        openai.NotFoundError, lambda: client.chat.completions.create(**{**GREEDY, "model": "none"})
    )
    assert missing.code == "model_not_found"
    raised(
        openai.BadRequestError,
        lambda: client.chat.completions.create(**{**GREEDY, "temperature": 99}),
    )


def left_in_mid_stream() -> None:
    with client.chat.completions.create(**{**GREEDY, "max_tokens": 400}, stream=True) as stream:
        next(iter(stream))
    assert client.chat.completions.create(**GREEDY).choices


ASKED_FOR = {"model": MODEL, "input": ASKED, "max_output_tokens": 24, "temperature": 0}


def response() -> None:
    told = client.responses.create(**ASKED_FOR, instructions="You are brief.")
    assert told.output_text
    assert told.status in ("completed", "incomplete")
    assert told.usage.total_tokens == told.usage.input_tokens + told.usage.output_tokens
    assert client.responses.retrieve(told.id).output_text == told.output_text
    client.responses.delete(told.id)
    raised(openai.NotFoundError, lambda: client.responses.retrieve(told.id))


def streamed_response() -> None:
    whole = client.responses.create(**ASKED_FOR).output_text
    with client.responses.stream(**ASKED_FOR) as stream:
        text = "".join(one.delta for one in stream if one.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == whole


def conversation() -> None:
    first = client.responses.create(**ASKED_FOR)
    second = client.responses.create(
        **{**ASKED_FOR, "input": "And of Italy?"}, previous_response_id=first.id
    )
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    raised(
        openai.BadRequestError,
        lambda: client.responses.create(**ASKED_FOR, previous_response_id="resp_none"),
    )


def structured() -> None:
    class City(BaseModel):
        name: str
        large: bool

    told = client.responses.parse(**{**ASKED_FOR, "max_output_tokens": 64}, text_format=City)
    assert isinstance(told.output_parsed, City)
    chat = client.chat.completions.parse(**{**GREEDY, "max_tokens": 64}, response_format=City)
    assert isinstance(chat.choices[0].message.parsed, City)


run(
    chat,
    streamed,
    vectors,
    errors,
    left_in_mid_stream,
    response,
    streamed_response,
    conversation,
    structured,
)
