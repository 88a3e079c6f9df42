"""Scenarios that are played over every `Service`, and requests of theirs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine

import pytest

from nsedge import api
from tests.contract.subjects import SUBJECTS, Subject
from tests.ipc import PATIENCE_S, until

Scenario = Callable[[Subject], Coroutine[None, None, None]]


def over_every_subject(scenario: Scenario) -> Callable[[str], None]:
    @pytest.mark.parametrize("name", SUBJECTS)
    @functools.wraps(scenario, assigned=("__module__", "__name__", "__doc__"), updated=())
    def test(name: str) -> None:
        async def play() -> None:
            async with asyncio.timeout(2 * PATIENCE_S), SUBJECTS[name]() as subject:
                await scenario(subject)

        asyncio.run(play())

    del test.__wrapped__  # type: ignore[attr-defined]
    return test


def asking(
    subject: Subject,
    label: str = "a",
    *,
    model: str | None = None,
    text: str | None = None,
    sampling: api.Sampling | None = None,
) -> api.Request:
    return api.Request(
        request_id=label,
        model=model or subject.model,
        task=api.Generate(
            text=subject.text if text is None else text,
            sampling=sampling or api.Sampling(max_tokens=5, ignore_eos=True),
        ),
    )


def endless(subject: Subject, label: str = "a") -> api.Request:
    return asking(subject, label, sampling=api.Sampling(ignore_eos=True))


class Record:
    """A sink that takes what it sees, unless told not to."""

    def __init__(self, subject: Subject, request: api.Request, *, takes: bool = True) -> None:
        self.events: list[api.Event] = []
        self._takes = takes
        self.ticket = subject.service.submit(request, self._see)
        self.seen_in_submit = len(self.events)

    def _see(self, event: api.Event) -> None:
        self.events.append(event)
        if self._takes:
            self.ticket.took(event)

    @property
    def ends(self) -> list[api.Event]:
        return [event for event in self.events if api.is_terminal(event)]

    async def end(self) -> api.Event:
        """The terminal event, once, and the last: given time for a second one to show up."""
        await until(lambda: bool(self.ends))
        for _ in range(20):
            await asyncio.sleep(0)
        assert self.ends == [self.events[-1]]
        return self.events[-1]
