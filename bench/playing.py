"""Sound played to a daemon as a microphone brings it, and how late what is told of it is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Activity, Committed, Failed, Feed, Mark, Segment
from nsedge.api.transcripts import joined_text
from nsedge.ipc.client import AsyncClient

PIECE_S = 0.1
SILENCE_S = 0.6
PADDING_S = 0.3


class Late(NamedTuple):
    """How late something was told of the sound at `at_s`; both in seconds."""

    at_s: float
    seconds: float


@dataclass(eq=False, kw_only=True)
class Played:
    """The events of sound as they came. first: the first words of each stretch of speech, after its
    begin. partial: results that are not final, after the sound that they tell of. final: the last
    words of each stretch, after its end and the silence behind it."""

    first: list[Late] = field(default_factory=list)
    partial: list[Late] = field(default_factory=list)
    final: list[Late] = field(default_factory=list)
    text: str = ""


async def play(
    client: AsyncClient, model: str, sound: NDArray[np.int16], rate: int, speed: float
) -> Played:
    """Play samples [N], `rate` a second, at `speed` times their own.

    Raises:
        NsedgeError: the request failed.
    """
    feed, sent = Feed(), [time.perf_counter()]
    events = client.listen(model, feed, rate=rate, silence_s=SILENCE_S, padding_s=PADDING_S)
    playing = asyncio.create_task(_push(feed, sound, rate, speed, sent))

    def late(at_s: float, more_s: float = 0.0) -> Late:
        """Since the sound at that place was sent, or now where it is not quite."""
        since_s = time.perf_counter() - sent[min(len(sent) - 1, int(at_s / PIECE_S) + 1)]
        return Late(at_s, since_s + more_s)

    played, began_s, finals = Played(), None, list[Segment]()
    async for event in events:
        match event:
            case Activity(speaking=True, at_s=at_s):
                began_s = at_s + PADDING_S
            case Activity(at_s=ended_s):
                end_s = ended_s
            case Segment(final=False):
                if began_s is not None:
                    played.first.append(late(began_s))
                    began_s = None
                played.partial.append(late(event.end_s))
            case Segment():
                finals.append(event)
            case Committed(at_s=at_s) if finals and at_s == end_s:
                played.final.append(late(at_s, SILENCE_S / speed))
            case Failed():
                if playing.done():
                    playing.result()  # why the sound broke off, where it did
                playing.cancel()
                raise event.error()
    await playing
    played.text = joined_text(finals)
    return played


async def _push(
    feed: Feed, sound: NDArray[np.int16], rate: int, speed: float, sent: list[float]
) -> None:
    """Push sound as a microphone does; `sent` notes when each piece went."""
    count = round(rate * PIECE_S)
    for number in range(-(-len(sound) // count)):
        due_s = sent[0] + (number + 1) * PIECE_S / speed
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        feed.push(sound[number * count : (number + 1) * count].tobytes())
        sent.append(time.perf_counter())
    feed.mark(Mark.END)
