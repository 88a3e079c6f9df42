"""pydantic-ai over OpenAI's chat and responses, and Anthropic's messages: its first examples."""

import asyncio

from checking import ASKED, MODEL, URL, raised, run
from pydantic import BaseModel, Field
from pydantic_ai import Agent, ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

openai = OpenAIProvider(base_url=f"{URL}/v1", api_key="none")
MODELS = (
    OpenAIChatModel(MODEL, provider=openai),
    OpenAIResponsesModel(MODEL, provider=openai),
    AnthropicModel(MODEL, provider=AnthropicProvider(base_url=URL, api_key="none")),
)
SETTINGS = {"temperature": 0.0, "max_tokens": 48}


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)


def ran() -> None:
    for model in MODELS:
        told = Agent(model, instructions="Be brief.").run_sync(ASKED, model_settings=SETTINGS)
        assert told.output
        assert told.usage.output_tokens > 0


def streamed() -> None:
    async def main() -> None:
        for model in MODELS:
            agent = Agent(model)
            whole = (await agent.run(ASKED, model_settings=SETTINGS)).output
            async with agent.run_stream(ASKED, model_settings=SETTINGS) as told:
                pieces = [piece async for piece in told.stream_text(delta=True, debounce_by=None)]
            assert len(pieces) > 2
            assert "".join(pieces) == whole

    asyncio.run(main())


def conversation() -> None:
    for model in MODELS:
        agent = Agent(model)
        first = agent.run_sync(ASKED, model_settings=SETTINGS)
        second = agent.run_sync(
            "And of Italy?", message_history=first.new_messages(), model_settings=SETTINGS
        )
        assert second.output


def structured() -> None:
    for model in MODELS:
        told = Agent(model, output_type=City).run_sync(ASKED, model_settings=SETTINGS)
        assert isinstance(told.output, City)


def tools() -> None:
    agent = Agent(MODELS[0])

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"Sunny in {city}."

    assert agent.run_sync(ASKED, model_settings=SETTINGS).output


def errors() -> None:
    missing = Agent(OpenAIChatModel("none", provider=openai))
    assert raised(ModelHTTPError, lambda: missing.run_sync(ASKED)).status_code == 404


run(ran, streamed, conversation, structured, tools, errors)
