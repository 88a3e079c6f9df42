"""Ollama's Python client: its README's examples."""

import asyncio
import json

from checking import ASKED, EMBEDDINGS, HI, MODEL, URL, raised, run
from ollama import AsyncClient, Client, ResponseError

client = Client(host=URL)
GREEDY = {"temperature": 0, "num_predict": 24}
LISTED = f"{EMBEDDINGS}:latest"
"""As it is listed: Ollama's names have a tag."""


def chat() -> None:
    response = client.chat(model=MODEL, messages=HI, options=GREEDY)
    assert "Paris" in response["message"]["content"]
    assert response.message.role == "assistant"
    assert response.done
    assert response.done_reason in ("stop", "length")
    assert response.eval_count > 0
    assert response.total_duration > response.eval_duration > 0


def streamed_chat() -> None:
    whole = client.chat(model=MODEL, messages=HI, options=GREEDY).message.content
    parts = list(client.chat(model=MODEL, messages=HI, options=GREEDY, stream=True))
    assert len(parts) > 3
    assert "".join(part["message"]["content"] for part in parts) == whole
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


def generate() -> None:
    told = client.generate(MODEL, ASKED, options=GREEDY, system="Answer briefly.")
    assert told.response
    assert told.prompt_eval_count > 0
    raw = client.generate(MODEL, "One, two, three,", raw=True, options=GREEDY)
    assert "four" in raw.response


def stopped_by_a_string() -> None:
    told = client.generate(
        MODEL, "One, two, three,", raw=True, options={**GREEDY, "stop": ["five"]}
    )
    assert "four" in told.response
    assert "five" not in told.response
    assert told.done_reason == "stop"


def structured() -> None:
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 20}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    options = {**GREEDY, "num_predict": 64}
    told = client.chat(model=MODEL, messages=HI, format=schema, options=options)
    assert set(json.loads(told.message.content)) == {"capital"}
    json.loads(client.generate(MODEL, ASKED, format="json", options=options).response)


def tools() -> None:
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: its name
        """
        return f"Sunny in {city}."

    told = client.chat(model=MODEL, messages=HI, tools=[get_weather], options=GREEDY)
    assert told.done
    history = [
        *HI,
        {
            "role": "assistant",
            "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}],
        },
        {"role": "tool", "tool_name": "get_weather", "content": get_weather("Paris")},
    ]
    after = client.chat(model=MODEL, messages=history, tools=[get_weather], options=GREEDY)
    assert after.done


def likelihoods() -> None:
    told = client.generate(
        MODEL, "One, two,", raw=True, options=GREEDY, logprobs=True, top_logprobs=2
    )
    assert len(told.logprobs) == told.eval_count or told.done_reason == "stop"
    assert all(len(one.top_logprobs) == 2 for one in told.logprobs)


def vectors() -> None:
    told = client.embed(model=EMBEDDINGS, input=["The sky is blue.", "Grass is green."])
    assert [len(one) for one in told.embeddings] == [384, 384]
    single = client.embeddings(model=EMBEDDINGS, prompt="The sky is blue.")
    assert (
        max(abs(a - b) for a, b in zip(single.embedding, told.embeddings[0], strict=False)) < 1e-3
    )


def models() -> None:
    assert {f"{MODEL}:latest", LISTED} <= {one.model for one in client.list().models}
    assert f"{MODEL}:latest" in {one.model for one in client.ps().models}
    told = client.show(MODEL)
    assert "completion" in told.capabilities
    assert told.modelinfo["general.architecture"]


def errors() -> None:
    missing = raised(ResponseError, lambda: client.chat(model="none", messages=HI))
    assert (missing.status_code, missing.error) == (404, "model 'none' not found")
    raised(ResponseError, lambda: client.pull("none"))
    wrong = raised(
        ResponseError, lambda: client.chat(model=MODEL, messages=HI, options={"temperature": -1})
    )
    assert wrong.status_code == 400


def left_in_mid_stream() -> None:
    stream = client.generate(MODEL, ASKED, stream=True, options={"num_predict": 400})
    next(iter(stream))
    del stream
    assert client.chat(model=MODEL, messages=HI, options=GREEDY).done


def side_by_side() -> None:
    async def main() -> None:
        other = AsyncClient(host=URL)
        asked = [other.chat(model=MODEL, messages=HI, options=GREEDY) for _ in range(4)]
        texts = {told.message.content for told in await asyncio.gather(*asked)}
        assert len(texts) == 1

    asyncio.run(main())


def loaded_and_unloaded() -> None:
    assert client.generate(model=EMBEDDINGS, keep_alive=0).done_reason == "unload"
    assert LISTED not in {one.model for one in client.ps().models}
    assert client.generate(model=EMBEDDINGS, keep_alive=-1).done_reason == "load"
    assert LISTED in {one.model for one in client.ps().models}


run(
    chat,
    streamed_chat,
    generate,
    stopped_by_a_string,
    structured,
    tools,
    likelihoods,
    vectors,
    models,
    errors,
    left_in_mid_stream,
    side_by_side,
    loaded_and_unloaded,
)
