"""instructor over OpenAI's chat and Anthropic's messages: its first examples, by tools and by
JSON schema."""

import instructor
from anthropic import Anthropic
from checking import ASKED, MODEL, URL, raised, run
from openai import OpenAI
from pydantic import BaseModel, Field

openai = OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
anthropic = Anthropic(base_url=URL, api_key="none", max_retries=0)
HI = [{"role": "user", "content": ASKED}]


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    large: bool


def by_tools() -> None:
    client = instructor.from_openai(openai, mode=instructor.Mode.TOOLS)
    told = client.chat.completions.create(
        model=MODEL, response_model=City, messages=HI, max_tokens=64, temperature=0, max_retries=0
    )
    assert isinstance(told, City)


def by_schema() -> None:
    client = instructor.from_openai(openai, mode=instructor.Mode.JSON_SCHEMA)
    told = client.chat.completions.create(
        model=MODEL, response_model=City, messages=HI, max_tokens=64, temperature=0, max_retries=0
    )
    assert isinstance(told, City)


def piece_by_piece() -> None:
    client = instructor.from_openai(openai, mode=instructor.Mode.TOOLS)
    seen = list(
        client.chat.completions.create_partial(
            model=MODEL, response_model=City, messages=HI, max_tokens=64, temperature=0
        )
    )
    assert len(seen) > 1
    assert seen[-1].name


def by_anthropics_tools() -> None:
    client = instructor.from_anthropic(anthropic)
    told = client.messages.create(
        model=MODEL, response_model=City, messages=HI, max_tokens=64, max_retries=0
    )
    assert isinstance(told, City)


def errors() -> None:
    client = instructor.from_openai(openai)
    raised(
        Exception,
        lambda: client.chat.completions.create(
            model="none", response_model=City, messages=HI, max_retries=0
        ),
    )


run(by_tools, by_schema, piece_by_piece, by_anthropics_tools, errors)
