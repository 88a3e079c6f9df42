"""Each program misbehaves in a process of its own, beside a client that must notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest

from nsedge.api import Finished, Request, Sink
from nsedge.ipc.client import AsyncClient
from nsedge.ipc.limits import Limits
from tests.fakes import MODEL, FakeService, FakeTicket
from tests.ipc import PATIENCE_S, gathered, serving, text_of, until

TEXT = " ".join(f"word{n}" for n in range(50))
REPOSITORY = Path(__file__).parents[2]

Program = asyncio.subprocess.Process


@contextlib.asynccontextmanager
async def misbehaving(name: str, endpoint: str) -> AsyncIterator[Program]:
    """The program `name` at work, killed in the end."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tests.misbehaving.{name}",
        endpoint,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await program.communicate()


async def told(program: Program) -> str:
    """The next line of a program."""
    assert program.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return (await program.stdout.readline()).decode().strip()


@contextlib.asynccontextmanager
async def neighbour(endpoint: str) -> AsyncIterator[AsyncClient]:
    """A client that asks again and again, and always gets the whole text."""
    async with AsyncClient(endpoint) as client:
        served, leaving = 0, asyncio.Event()

        async def live() -> None:
            nonlocal served
            while not leaving.is_set():
                events = await gathered(client.generate(MODEL, TEXT))
                assert text_of(events) == TEXT
                assert isinstance(events[-1], Finished)
                served += 1

        life = asyncio.create_task(live())
        await until(lambda: served > 0 or life.done())
        yield client
        before = served
        await until(lambda: served > before or life.done())
        leaving.set()
        await life


def hogs(service: FakeService) -> int:
    """Requests at work that are not the neighbour's."""
    return sum(ticket.request.request_id.startswith("hog") for ticket in service.live)


class Endless(FakeService):
    """Says the words of a hog for ever, and everybody else's once."""

    def __init__(self) -> None:
        super().__init__()
        self.hog = FakeService(repeat=10**9, max_untaken=10**9, live=self.live)

    def submit(self, request: Request, sink: Sink) -> FakeTicket:
        if request.request_id.startswith("hog"):
            return self.hog.submit(request, sink)
        return super().submit(request, sink)


def play(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("program", "limits"),
    [
        ("never_reads", Limits(sweep_s=0.01, stall_s=0.2)),
        ("never_reads", Limits(sweep_s=0.01, max_pending_bytes=50_000)),
        ("never_reads", Limits(sweep_s=0.01, max_unsent_messages=1000)),
        ("byte_a_second", Limits(sweep_s=0.01, stall_s=0.2)),
    ],
    ids=["never_reads-time", "never_reads-bytes", "never_reads-messages", "byte_a_second"],
)
def test_who_does_not_read_is_cut_off(program: str, limits: Limits) -> None:
    async def scenario() -> None:
        service = Endless()
        async with (
            serving(service, limits=limits) as endpoint,
            neighbour(endpoint),
            misbehaving(program, endpoint) as hog,
        ):
            assert await told(hog) == "asked"
            await until(lambda: service.hog.accepted > 0 and hogs(service) == 0)
            assert service.hog.cancelled == service.hog.accepted
            assert hog.returncode is None

    play(scenario)


def test_garbage_is_answered_and_forgotten() -> None:
    async def scenario() -> None:
        service = FakeService()
        async with (
            serving(service) as endpoint,
            neighbour(endpoint),
            misbehaving("garbage", endpoint) as program,
        ):
            assert await told(program) == "done"

    play(scenario)


def test_who_dies_in_prefill_takes_its_work_along() -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        service = FakeService(gate=gate)
        async with (
            serving(service) as endpoint,
            AsyncClient(endpoint) as client,
            misbehaving("dies_in_prefill", endpoint) as program,
        ):
            beside = asyncio.create_task(gathered(client.generate(MODEL, TEXT)))
            assert await told(program) == "started"
            await until(lambda: len(service.live) == 2)
            program.kill()
            await until(lambda: service.cancelled == 1)
            (left,) = service.live
            assert left.request.request_id != "doomed"
            gate.set()
            assert text_of(await beside) == TEXT

    play(scenario)


def test_a_flood_is_answered_request_by_request() -> None:
    async def scenario() -> None:
        service = FakeService(max_requests=10_000)
        async with (
            serving(service) as endpoint,
            neighbour(endpoint),
            misbehaving("floods", endpoint) as program,
        ):
            assert await told(program) == "{'finished': 1000}"

    play(scenario)


def test_a_flood_beyond_the_queue_is_refused_request_by_request() -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        service = FakeService(max_requests=16, gate=gate)
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            beside = asyncio.create_task(gathered(client.generate(MODEL, TEXT)))
            await until(lambda: len(service.live) == 1)
            async with misbehaving("floods", endpoint) as program:
                await until(lambda: service.refused == 985)
                gate.set()
                assert await told(program) == "{'queue_full': 985, 'finished': 15}"
            assert text_of(await beside) == TEXT

    play(scenario)


@pytest.mark.parametrize(
    ("program", "answers"),
    [
        ("forges", ["['bad_message', 'out_of_order']"]),
        ("from_the_future", ["['unsupported_version', 'unsupported_version', 'out_of_order']"]),
        ("oversized", ["('big', 'message_too_large')", "sent"]),
    ],
)
def test_who_breaks_the_rules_is_told_so(program: str, answers: list[str]) -> None:
    async def scenario() -> None:
        service = FakeService()
        async with (
            serving(service) as endpoint,
            neighbour(endpoint),
            misbehaving(program, endpoint) as culprit,
        ):
            for answer in answers:
                assert await told(culprit) == answer
            assert service.cancelled == 0

    play(scenario)
