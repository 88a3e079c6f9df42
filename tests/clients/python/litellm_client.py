"""litellm over OpenAI's, Anthropic's and Ollama's routes: its first examples."""

import asyncio

import litellm
from checking import ASKED, EMBEDDINGS, MODEL, URL, raised, run

litellm.telemetry = False
HI = [{"role": "user", "content": ASKED}]
ROUTES = (
    {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": "none"},
    {"model": f"anthropic/{MODEL}", "api_base": URL, "api_key": "none"},
    {"model": f"ollama_chat/{MODEL}", "api_base": URL},
)
GREEDY = {"messages": HI, "temperature": 0, "max_tokens": 24, "num_retries": 0}


def completion() -> None:
    for route in ROUTES:
        told = litellm.completion(**route, **GREEDY)
        assert told.choices[0].message.content
        assert told.usage.completion_tokens > 0


def streamed() -> None:
    for route in ROUTES:
        whole = litellm.completion(**route, **GREEDY).choices[0].message.content
        chunks = litellm.completion(**route, **GREEDY, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(pieces) == whole


def side_by_side() -> None:
    async def main() -> None:
        told = await asyncio.gather(*(litellm.acompletion(**route, **GREEDY) for route in ROUTES))
        assert len({one.choices[0].message.content for one in told}) == 1

    asyncio.run(main())


def responses() -> None:
    told = litellm.responses(**ROUTES[0], input=ASKED, max_output_tokens=24)
    assert told.output[0].content[0].text


def vectors() -> None:
    told = litellm.embedding(
        model=f"openai/{EMBEDDINGS}", api_base=f"{URL}/v1", api_key="none", input=["a", "b"]
    )
    assert [len(one["embedding"]) for one in told.data] == [384, 384]


def errors() -> None:
    missing = {**ROUTES[0], "model": "openai/none"}
    raised(litellm.NotFoundError, lambda: litellm.completion(**missing, **GREEDY))
    long = {**GREEDY, "messages": [{"role": "user", "content": "word " * 3000}]}
    for route in ROUTES[:2]:
        raised(
            litellm.ContextWindowExceededError,
            lambda route=route: litellm.completion(**route, **long),
        )


run(completion, streamed, side_by_side, responses, vectors, errors)
