"""OpenAI's Python client: its README's examples."""

import openai
from checking import EMBEDDINGS, HI, MODEL, URL, raised, run
from openai import OpenAI

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


run(chat, streamed, vectors, errors, left_in_mid_stream)
