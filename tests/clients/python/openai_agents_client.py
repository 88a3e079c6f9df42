"""openai-agents over responses and over chat completions: its first examples."""

import asyncio

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from checking import ASKED, MODEL, URL, raised, run
from openai import AsyncOpenAI, NotFoundError
from pydantic import BaseModel, Field

set_tracing_disabled(True)
SETTINGS = ModelSettings(temperature=0, max_tokens=48)


def models(name: str = MODEL) -> list:
    client = AsyncOpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    return [
        OpenAIResponsesModel(model=name, openai_client=client),
        OpenAIChatCompletionsModel(model=name, openai_client=client),
    ]


def agent(model: object, **fields: object) -> Agent:
    named = {"name": "Assistant", "instructions": "You are a helpful assistant."}
    return Agent(**named, model=model, model_settings=SETTINGS, **fields)


def ran() -> None:
    async def main() -> None:
        for model in models():
            assert (await Runner.run(agent(model), ASKED)).final_output

    asyncio.run(main())


def streamed() -> None:
    async def main() -> None:
        for model in models():
            whole = (await Runner.run(agent(model), ASKED)).final_output
            told = Runner.run_streamed(agent(model), ASKED)
            pieces = [
                event.data.delta
                async for event in told.stream_events()
                if event.type == "raw_response_event"
                and event.data.type == "response.output_text.delta"
            ]
            assert len(pieces) > 2
            assert "".join(pieces) == told.final_output == whole

    asyncio.run(main())


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)


def structured() -> None:
    async def main() -> None:
        for model in models():
            told = await Runner.run(agent(model, output_type=City), ASKED)
            assert isinstance(told.final_output, City)

    asyncio.run(main())


def tools() -> None:
    called = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        called.append(city)
        return f"Sunny in {city}."

    async def main() -> None:
        for model in models():
            forced = Agent(
                name="Forced",
                model=model,
                tools=[get_weather],
                tool_use_behavior="stop_on_first_tool",
                model_settings=ModelSettings(
                    temperature=0, max_tokens=64, tool_choice="get_weather"
                ),
            )
            assert (await Runner.run(forced, ASKED)).final_output.startswith("Sunny in")

    asyncio.run(main())
    assert len(called) == 2


def conversation() -> None:
    async def main() -> None:
        for model in models():
            first = await Runner.run(agent(model), ASKED)
            turns = [*first.to_input_list(), {"role": "user", "content": "And of Italy?"}]
            assert (await Runner.run(agent(model), turns)).final_output

    asyncio.run(main())


def errors() -> None:
    async def main() -> None:
        for model in models("none"):
            await Runner.run(agent(model), ASKED)

    raised(NotFoundError, lambda: asyncio.run(main()))


run(ran, streamed, structured, tools, conversation, errors)
