"""Open WebUI's backend as a server meets it: the headers it sends, the client it has, and how it
reads what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from nsedge.api import Delta, ReasoningDelta, ToolCallDelta
from nsedge.security.keyring import KeyRing
from nsedge.security.watched_file import WatchedFile
from tests.fakes import FakeService
from tests.web_server import running

ASKED = "what is the weather in Oslo"
THOUGHT = ReasoningDelta(request_id="", seq=0, text="Look it up.", token_ids=(1,))
CALL = ToolCallDelta(
    request_id="",
    seq=1,
    index=0,
    call_id="call_1",
    name="weather",
    arguments='{"city": "Oslo"}',
    token_ids=(2,),
)
SAID = Delta(request_id="", seq=0, text="Rain.", token_ids=(3,))
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
USER = {
    "X-OpenWebUI-User-Name": "A%20B",
    "X-OpenWebUI-User-Id": "5f0c",
    "X-OpenWebUI-User-Email": "a@b.example",
    "X-OpenWebUI-User-Role": "admin",
    "X-OpenWebUI-Chat-Id": "90aa",
}


@dataclass
class Backend:
    """What sends: a session, a server's address, and the key set for it, if any."""

    session: aiohttp.ClientSession
    url: str
    service: FakeService
    key: str = ""

    def _headers(self) -> dict[str, str]:
        # A server without a key is sent an empty one by some calls.
        key = {"Authorization": f"Bearer {self.key}"}
        return {"Content-Type": "application/json", **key, **USER}

    async def get(self, path: str) -> Any:
        async with self.session.get(self.url + path, headers=self._headers()) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str, payload: Any) -> Any:
        answer = self.session.post(
            self.url + path, data=json.dumps(payload), headers=self._headers()
        )
        async with answer as found:
            assert found.ok, await found.text()
            return await found.json()

    async def lines(self, path: str, payload: Any) -> list[bytes]:
        """A stream as it is passed on: by lines."""
        data = json.dumps(payload)
        async with self.session.post(self.url + path, data=data, headers=self._headers()) as answer:
            assert answer.ok, await answer.text()
            return [line async for line in answer.content if line.strip()]

    async def events(self, payload: Any, path: str = "/v1/chat/completions") -> list[Any]:
        """A stream of server-sent events, ended as it must be."""
        lines = await self.lines(path, payload)
        data = [line.removeprefix(b"data: ").strip() for line in lines if line.startswith(b"data:")]
        if path.endswith("completions"):
            assert data.pop() == b"[DONE]"
        return [json.loads(one) for one in data]

    async def refused(self, method: str, path: str, payload: Any) -> tuple[int, Any]:
        data = json.dumps(payload)
        async with self.session.request(
            method, self.url + path, data=data, headers=self._headers()
        ) as answer:
            assert not answer.ok
            return answer.status, (await answer.json())["error"]

    @property
    def task(self) -> Any:
        """What was asked for last."""
        return self.service.requests[-1].task


@asynccontextmanager
async def backend(
    keys: WatchedFile[KeyRing] | None = None, key: str = ""
) -> AsyncIterator[Backend]:
    shows = {ASKED: (THOUGHT, CALL), "cloudy, 7": (SAID,)}
    service = FakeService(shows=shows)
    async with running(service, keys=keys) as shim, aiohttp.ClientSession() as session:
        yield Backend(session=session, url=shim.url, service=service, key=key)


def play(scene: Callable[[Backend], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), backend(**options) as asking:
            await scene(asking)

    asyncio.run(main())
