"""The doors that the shim has: a new one is a module here, and a line in `ALL`."""

from __future__ import annotations

from nsedge.web.door import Door
from nsedge.web.doors import (
    a1111,
    anthropic,
    chat,
    generate,
    jina,
    llama_server,
    ollama,
    openai,
    operations,
    studio,
    websocket,
)

ALL: tuple[Door, ...] = (
    openai.DOOR,
    anthropic.DOOR,
    generate.DOOR,
    chat.DOOR,
    ollama.DOOR,
    llama_server.DOOR,
    jina.DOOR,
    a1111.DOOR,
    studio.DOOR,
    websocket.DOOR,
    operations.DOOR,
)
