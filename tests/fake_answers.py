"""What the fake service answers: words, vectors, labels, and what it hears in bytes."""

from __future__ import annotations

import asyncio
import hashlib
import math
import struct
from collections.abc import Iterator
from typing import Protocol

from nsedge.api import (
    Activity,
    Caption,
    Chat,
    Classify,
    Committed,
    Event,
    Fill,
    Filling,
    Fillings,
    Generate,
    Imagine,
    Input,
    Label,
    Labels,
    Language,
    Listen,
    Logprobs,
    Mark,
    Media,
    Picture,
    PictureRecord,
    Progress,
    Request,
    Score,
    Scores,
    Segment,
    Task,
    TokenLogprob,
    Transcribe,
    Word,
)

MASK = "[MASK]"
DIMENSIONS = 8
"""Of the fake's vectors."""
HEARD_BYTES = 256
"""Of a recording, which the fake hears words in."""


class Heard(Protocol):
    """A request in the fake's hands: `tests.fakes.FakeTicket`."""

    request: Request

    def emit(self, event: Event) -> None:
        """Tell an event of it."""


def imagined(request: Request, task: Imagine) -> Iterator[Event]:
    """A step and a picture for each that is asked for; as its file, the prompt and the seed."""
    total = float(task.count)
    for index in range(task.count):
        done = float(index + 1)
        yield Progress(request_id=request.request_id, done=done, total=total, unit="step")
        record = PictureRecord(
            model=request.model,
            digest="ab" * 32,
            licence="MIT",
            prompt=task.prompt,
            negative_prompt=task.negative_prompt,
            seed=(task.seed or 0) + index,
            steps=task.steps or 20,
            guidance=7.5 if task.guidance is None else task.guidance,
            guidance_rescale=task.guidance_rescale,
            scheduler=task.scheduler or "euler",
            width=task.width or 64,
            height=task.height or 64,
        )
        yield Picture(
            request_id=request.request_id,
            index=index,
            media_type="image/png",
            data=f"{task.prompt} {record.seed}".encode(),
            record=record,
        )


def judged(label: str, task: Classify | Fill | Score) -> Labels | Fillings | Scores:
    """What the fake finds in texts: the longer one is, the surer."""
    if isinstance(task, Score):
        data = struct.pack(f"<{len(task.documents)}f", *map(len, task.documents))
        return Scores(request_id=label, first=0, shape=(len(task.documents), 1), data=data)
    if isinstance(task, Fill):
        tokens = tuple(Filling(token_id=n, token=f" t{n}", score=0.5) for n in range(task.top_k))
        found = tuple((tokens,) * one.count(MASK) for one in task.inputs)
        return Fillings(request_id=label, first=0, masks=found)
    if task.aggregation is not None and not task.labels:
        spans = tuple(
            (Label(label="PER", score=0.75, start=0, end=len(str(one)), word=str(one)),)
            for one in task.inputs
        )
        return Labels(request_id=label, first=0, labels=spans)
    names = task.labels or ("long", "short")
    told = tuple(Label(label=name, score=0.75 * 3.0**-at) for at, name in enumerate(names))
    told = told[: task.top_k]
    return Labels(request_id=label, first=0, labels=(told,) * len(task.inputs))


def asked_text(task: Task) -> str:
    """What a fake answers to: the text, or the last message, and what it shows."""
    if isinstance(task, Chat):
        last = task.messages[-1]
        return " ".join([last.text, *(f"{one.type}={len(one.data)}" for one in last.media)])
    if isinstance(task, Transcribe | Caption):
        return task.media.data[:HEARD_BYTES].decode(errors="replace")
    if not isinstance(task, Generate):
        return ""
    return task.text if task.token_ids is None else " ".join(map(str, task.token_ids))


def heard(label: str, task: Transcribe, words: list[str]) -> Iterator[Event]:
    """What the fake hears in bytes: their words, a second and a segment each, in the language that
    was told, or else English."""
    yield Language(request_id=label, language=task.language or "en", probability=0.5)
    for number, word in enumerate(words):
        said = Word(text=word, start_s=float(number), end_s=number + 0.5, probability=0.5)
        yield Segment(
            request_id=label,
            seq=number,
            start_s=float(number),
            end_s=number + 1.0,
            text=word if number else f" {word}",
            tokens=(number, number + 1),
            avg_logprob=-0.25,
            compression_ratio=1.5,
            no_speech_prob=0.125,
            words=(said,) if task.word_timestamps else (),
        )
        yield Progress(request_id=label, done=number + 1.0, total=float(len(words)), unit="s")


async def hear(ticket: Heard, task: Listen) -> float:
    """Tell the words in the bytes of a feed, as they come, all but the last of them stable; a full
    stop ends the speech. The seconds that came."""
    label, came = ticket.request.request_id, asyncio.Event()
    loop = asyncio.get_running_loop()
    task.feed.came = lambda: loop.call_soon_threadsafe(came.set) and None
    size, seq, text, speaking = 0, 0, "", False
    while True:
        taken = task.feed.take(1 << 16)
        at_s = size / task.frame_bytes / task.rate
        if taken is None:
            await came.wait()
            came.clear()
            continue
        if isinstance(taken, bytes):
            if not speaking:
                ticket.emit(Activity(request_id=label, speaking=True, at_s=at_s))
            speaking, size, text = True, size + len(taken), text + taken.decode(errors="replace")
            if task.partials:
                ticket.emit(part(label, seq, text, stable=max(0, text.rfind(" "))))
            if not text.endswith("."):
                continue
            at_s = size / task.frame_bytes / task.rate
            ticket.emit(Activity(request_id=label, speaking=False, at_s=at_s))
            speaking = False
        if text and taken is not Mark.CLEAR:
            ticket.emit(part(label, seq, text, stable=len(text), final=True))
            seq += 1
        text = ""
        if taken is not Mark.CLEAR:
            ticket.emit(Committed(request_id=label, at_s=at_s))
        if taken is Mark.END:
            return at_s


def part(label: str, seq: int, text: str, *, stable: int, final: bool = False) -> Segment:
    """A segment of sound that comes."""
    return Segment(
        request_id=label,
        seq=seq,
        start_s=float(seq),
        end_s=seq + 1.0,
        text=text,
        final=final,
        stable=stable,
    )


def likely(token: int, text: str, count: int | None) -> tuple[Logprobs, ...]:
    """What the fake tells of a token where it is asked: it found the token likeliest, and others by
    the next numbers half as likely each."""
    if count is None:
        return ()
    top = tuple(
        TokenLogprob(id=token + place, logprob=-math.log(2) * (place + 1), text=text + "!" * place)
        for place in range(count)
    )
    return (Logprobs(id=token, logprob=-math.log(2), rank=1, text=text, top=top),)


def vector(given: Input, width: int = DIMENSIONS) -> bytes:
    """The fake's vector of an input: float32 [width] of length 1, little-endian."""
    known = given.data if isinstance(given, Media) else repr(given).encode()
    digest = hashlib.sha256(known).digest()
    numbers = [digest[place] / 255 - 0.5 for place in range(width)]
    length = math.sqrt(sum(number * number for number in numbers))
    return struct.pack(f"<{width}f", *(number / length for number in numbers))
