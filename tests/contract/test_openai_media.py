"""The official `openai` client where answers and streams tell what was made of media."""

from __future__ import annotations

from typing import Any

from openai import OpenAI

from tests.contract.test_openai_client import shim_in_a_thread
from tests.fakes import MODEL
from tests.unit.web.test_media_at_doors import PARTS, PICTURE, TOLD, Seeing

MESSAGES: Any = [{"role": "user", "content": PARTS}]
INPUT: Any = [
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "Well?"},
            {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
        ],
    }
]


def extra(one: Any) -> Any:
    """What the client found beside the fields that it knows."""
    return (one.model_extra or {}).get("media")


def test_an_answer_has_them() -> None:
    with shim_in_a_thread(Seeing()) as shim:
        client = OpenAI(base_url=f"http://127.0.0.1:{shim.port}/v1", api_key="none", max_retries=0)
        whole = client.chat.completions.create(model=MODEL, messages=MESSAGES)
        response = client.responses.create(model=MODEL, input=INPUT)
    assert whole.choices[0].message.content == "So."
    assert extra(whole) == [TOLD]
    assert response.output_text == "So."
    assert extra(response) == [TOLD]


def test_streams_that_tell_them_are_read_to_their_end() -> None:
    with shim_in_a_thread(Seeing()) as shim:
        client = OpenAI(base_url=f"http://127.0.0.1:{shim.port}/v1", api_key="none", max_retries=0)
        chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
        with client.chat.completions.stream(model=MODEL, messages=MESSAGES) as helped:
            final = helped.get_final_completion()
        with client.responses.stream(model=MODEL, input=INPUT) as events:
            kinds = [event.type for event in events]
            response = events.get_final_response()
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [extra(chunk) for chunk in chunks if extra(chunk)] == [[TOLD]]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "So."
    assert final.choices[0].message.content == "So."
    assert kinds[:3] == ["response.created", "response.in_progress", "response.media_read"]
    assert response.output_text == "So."
