"""The services that the contract suite runs over. To add one, add its factory to `SUBJECTS`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from nsedge import api
from nsedge.ipc.client import AsyncClient
from tests.fakes import MODEL, FakeService
from tests.ipc import serving


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A service at work, a model that it serves, and a text that this model continues for long."""

    service: api.Service
    model: str
    text: str = "one two three"


Factory = Callable[[], AbstractAsyncContextManager[Subject]]


def fake() -> FakeService:
    """Talks on for as long as it is let, at a pace that a reader can keep up with."""
    return FakeService(repeat=10**6, max_untaken=256, pace_s=0.0005)


@contextlib.asynccontextmanager
async def in_process() -> AsyncIterator[Subject]:
    """The fake itself."""
    yield Subject(service=fake(), model=MODEL)


@contextlib.asynccontextmanager
async def over_zeromq() -> AsyncIterator[Subject]:
    """A client of a server in front of the fake."""
    async with serving(fake()) as endpoint, AsyncClient(endpoint, credit_bytes=4096) as client:
        yield Subject(service=client, model=MODEL)


SUBJECTS: dict[str, Factory] = {"fake": in_process, "zeromq": over_zeromq}
