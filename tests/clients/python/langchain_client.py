"""LangChain over its OpenAI, Anthropic and Ollama packages: first examples of its chat models."""

import asyncio

from checking import ASKED, EMBEDDINGS, MODEL, URL, raised, run
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

openai = ChatOpenAI(
    base_url=f"{URL}/v1", api_key="none", model=MODEL, temperature=0, max_tokens=24, max_retries=0
)
ollama = ChatOllama(base_url=URL, model=MODEL, temperature=0, num_predict=24)
anthropic = ChatAnthropic(
    base_url=URL, api_key="none", model=MODEL, max_tokens=24, max_retries=0, temperature=0
)
MODELS = (openai, ollama, anthropic)


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


def invoke() -> None:
    for model in MODELS:
        told = model.invoke([SystemMessage("You are brief."), HumanMessage(ASKED)])
        assert told.content
        assert told.usage_metadata["output_tokens"] > 0


def streams() -> None:
    for model in MODELS:
        whole = model.invoke(ASKED).text
        pieces = [chunk.text for chunk in model.stream(ASKED)]
        assert len([piece for piece in pieces if piece]) > 2
        assert "".join(pieces) == whole


def chain() -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "You are brief."), ("user", "{asked}")])
    for model in MODELS:
        assert (prompt | model).invoke({"asked": ASKED}).content


def side_by_side() -> None:
    async def main() -> None:
        for model in MODELS:
            told = await asyncio.gather(*(model.ainvoke(ASKED) for _ in range(3)))
            assert len({one.text for one in told}) == 1

    asyncio.run(main())


def tools() -> None:
    forced = openai.bind(max_tokens=64).bind_tools([get_weather], tool_choice="get_weather")
    (call,) = forced.invoke(ASKED).tool_calls
    assert call["name"] == "get_weather"
    assert isinstance(call["args"]["city"], str)
    forced = anthropic.bind(max_tokens=64).bind_tools([get_weather], tool_choice="any")
    assert forced.invoke(ASKED).tool_calls[0]["name"] == "get_weather"
    assert ollama.bind_tools([get_weather]).invoke(ASKED) is not None


def structured() -> None:
    assert isinstance(openai.with_structured_output(City).invoke(ASKED), City)
    assert isinstance(ollama.with_structured_output(City).invoke(ASKED), City)


def vectors() -> None:
    for made in (
        OllamaEmbeddings(base_url=URL, model=EMBEDDINGS),
        OpenAIEmbeddings(
            base_url=f"{URL}/v1", api_key="none", model=EMBEDDINGS, check_embedding_ctx_length=False
        ),
    ):
        assert [len(one) for one in made.embed_documents(["a", "b"])] == [384, 384]


def errors() -> None:
    raised(Exception, lambda: openai.bind(model="none").invoke(ASKED))
    missing = ChatOllama(base_url=URL, model="none")
    assert "not found" in str(raised(Exception, lambda: missing.invoke(ASKED)))


run(invoke, streams, chain, side_by_side, tools, structured, vectors, errors)
