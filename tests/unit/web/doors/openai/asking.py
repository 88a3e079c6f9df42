"""Bodies of chats and completions -> requests, as the routes read them."""

from __future__ import annotations

from typing import Any

import msgspec

from nsedge.api import Chat, Message, Request
from nsedge.web.bodies import beyond, decode
from nsedge.web.doors.openai.bodies import ChatBody, CompletionBody
from nsedge.web.doors.openai.requests import (
    CHAT_OTHERS,
    COMPLETION_OTHERS,
    chat_requests,
    completion_requests,
)
from nsedge.web.limits import WebLimits

LIMITS = WebLimits(max_messages=4, max_prompt_chars=500, max_choices=4)
USER = {"role": "user", "content": "Hi"}
SUN: dict[str, Any] = {
    "type": "function",
    "function": {"description": "When it shines.", "name": "sun", "parameters": {}},
}
NAMED: dict[str, Any] = {"type": "function", "function": {"name": "sun"}}
CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "sun", "arguments": "{}"},
}


def chat(**fields: Any) -> tuple[Request, ...]:
    raw = msgspec.json.encode({"model": "m", "messages": [USER]} | fields)
    body = decode(raw, ChatBody)
    CHAT_OTHERS.check(beyond(raw, ChatBody), honoured=ChatBody.__struct_fields__)
    return chat_requests(body, "r", LIMITS)


def completion(**fields: Any) -> tuple[Request, ...]:
    raw = msgspec.json.encode({"model": "m", "prompt": "Hi"} | fields)
    body = decode(raw, CompletionBody)
    COMPLETION_OTHERS.check(beyond(raw, CompletionBody), honoured=CompletionBody.__struct_fields__)
    return completion_requests(body, "r", LIMITS)


def messages(request: Request) -> tuple[Message, ...]:
    assert isinstance(request.task, Chat)
    return request.task.messages


def allowed(mode: str, name: str) -> dict[str, Any]:
    tools = [NAMED | {"function": {"name": name}}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
