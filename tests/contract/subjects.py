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

SHOW = "show everything"
EVERYTHING: tuple[api.Event, ...] = (
    api.ReasoningDelta(request_id="", seq=0, text="Hm.", token_ids=(1,)),
    api.ToolCallDelta(
        request_id="", seq=1, index=0, call_id="c", name="f", arguments="", token_ids=(2,)
    ),
    api.ToolCallDelta(
        request_id="", seq=2, index=0, call_id=None, name=None, arguments="{}", token_ids=()
    ),
    api.Scores(request_id="", first=0, shape=(1, 2), data=b"\0\0\x80?\0\0\0@"),
    api.Segment(request_id="", seq=0, start_s=0.0, end_s=1.5, text="Good", final=False),
    api.Segment(request_id="", seq=0, start_s=0.0, end_s=2.0, text="Good morning."),
    api.Language(request_id="", language="en", probability=0.75),
    api.Segment(
        request_id="",
        seq=1,
        start_s=2.0,
        end_s=3.0,
        text=" Yes.",
        tokens=(1, 2),
        seek_s=1.5,
        temperature=0.2,
        avg_logprob=-0.5,
        compression_ratio=1.25,
        no_speech_prob=0.125,
        words=(api.Word(text=" Yes.", start_s=2.0, end_s=2.5, probability=0.5),),
    ),
    api.Activity(request_id="", speaking=False, at_s=3.5),
    api.Committed(request_id="", at_s=3.5),
    api.Progress(request_id="", done=3.0, total=None, unit="step"),
    api.ArtifactPending(request_id="", artifact_id="f", media_type="image/png"),
    api.ArtifactReady(
        request_id="", artifact_id="f", media_type="image/png", bytes=3, sha256="ab" * 32
    ),
)
"""Of events that no model of text has, one each at least."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A service at work, a model that it serves, and a text that this model continues for long.

    shows: a text that is answered with `EVERYTHING`; None where the model is a real one.
    """

    service: api.Service
    model: str
    text: str = "one two three"
    shows: str | None = None


Factory = Callable[[], AbstractAsyncContextManager[Subject]]


def fake() -> FakeService:
    """Talks on for as long as it is let, at a pace that a reader can keep up with."""
    shows = {SHOW: EVERYTHING}
    return FakeService(repeat=10**6, max_untaken=256, pace_s=0.0005, shows=shows)


@contextlib.asynccontextmanager
async def in_process() -> AsyncIterator[Subject]:
    """The fake itself."""
    yield Subject(service=fake(), model=MODEL, shows=SHOW)


@contextlib.asynccontextmanager
async def over_zeromq() -> AsyncIterator[Subject]:
    """A client of a server in front of the fake."""
    async with serving(fake()) as endpoint, AsyncClient(endpoint, credit_bytes=4096) as client:
        yield Subject(service=client, model=MODEL, shows=SHOW)


SUBJECTS: dict[str, Factory] = {"fake": in_process, "zeromq": over_zeromq}
