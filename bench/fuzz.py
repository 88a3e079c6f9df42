"""Messages and HTTP requests that are almost right, against a real core and shim; and requests by
the rules, with recordings, pictures and texts that are almost right, for models of every kind.

    python -m bench.fuzz --bundle DIR [--beside DIR ...] [--frames 1000000] [--requests 100000]
        [--asks 20000] [--seed 1]

Demanded: neither process ends, no answer says `internal`, nothing is left waiting, no request stays
behind, and memory and descriptors are where they were. Ends with status 1 where that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import zmq

from bench.daemon import Daemon, daemon
from bench.mutants import MAGIC, VERSION, Mutants
from bench.report import chosen_of, emit, parser, say
from nsedge.bundle.manifest import Bundle
from nsedge.ipc.client import AsyncClient

BATCH = 200
"""Messages between two looks whether everything was answered."""
PATIENCE_S = 60.0
UNFINISHED_S = 0.3
"""How long an answer is waited for before the request is taken for one that has no end."""
AT_ONCE = 64
REAL_SHARE = 0.95
"""Of requests by the rules, those for models that are there."""
WARM_UP = 0.5
"""The share of the messages before which memory is not compared: the C allocator's pieces are many
by then, and what goes on growing is a leak."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Stuck(Exception):
    """Nothing was heard for PATIENCE_S."""


@dataclass
class Answers:
    """Counts the answers by code or status, and keeps those that should not have come."""

    counts: Counter[str] = field(default_factory=Counter)
    internal: list[bytes] = field(default_factory=list)


class Door:
    """A DEALER at one of a core's sockets, which never waits for long."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.sndhwm = self._socket.rcvhwm = 0
        self._socket.rcvtimeo = self._socket.sndtimeo = int(PATIENCE_S * 1000)
        self._socket.connect(address)

    def send(self, *frames: bytes) -> None:
        """Send a message of whatever frames."""
        self._socket.send_multipart(frames)

    def hear_ends(self, labels: set[str], answers: Answers) -> None:
        """Count what comes, until each of the requests has ended."""
        while labels:
            try:
                _, *frames = self._socket.recv_multipart()
            except zmq.Again:
                raise Stuck(f"no end to {sorted(labels)} within {PATIENCE_S:g} s") from None
            for frame in frames:
                answer = msgpack.unpackb(frame)
                answers.counts[answer.get("code", answer["type"])] += 1
                if answer.get("code") == "internal":
                    answers.internal.append(frame)
                if answer["type"] in ("finished", "failed"):
                    if answer["id"] not in labels:
                        raise AssertionError(f"a second end: {answer}")
                    labels.discard(answer["id"])

    def hear_until(self, label: str, answers: Answers) -> None:
        """Count what comes, up to the reply to the query `label`."""
        while True:
            try:
                _, *frames = self._socket.recv_multipart()
            except zmq.Again:
                raise Stuck(f"no answer to {label} within {PATIENCE_S:g} s") from None
            for frame in frames:
                answer = msgpack.unpackb(frame)
                answers.counts[answer.get("code", answer["type"])] += 1
                if answer.get("code") == "internal":
                    answers.internal.append(frame)
                if answer["type"] == "reply" and answer["id"] == label:
                    return


def flood_frames(endpoint: str, mutants: Mutants, count: int) -> Answers:
    """Send `count` messages to the data and the control socket; each batch is answered before the
    next.

    Raises:
        Stuck: it was not.
    """
    answers = Answers()
    with zmq.Context() as context:
        doors = Door(context, endpoint), Door(context, f"{endpoint}.control")
        for number in range(0, count, BATCH):
            for index in range(min(BATCH, count - number)):
                doors[index % 4 == 3].send(*mutants.frames())
            label = f"batch{number}"
            hello = {"type": "hello", "protocol": VERSION}
            for door, kind in zip(doors, ("models", "health"), strict=True):
                query = msgpack.packb({"type": kind, "id": label})
                greeting = (msgpack.packb(hello),) if kind == "models" else ()
                door.send(MAGIC, *greeting, query)
            for door in doors:
                door.hear_until(label, answers)
        doors[0].send(MAGIC, msgpack.packb({"type": "bye"}))
        context.destroy(linger=200)
    return answers


def flood_asks(endpoint: str, mutants: Mutants, count: int) -> Answers:
    """Send `count` requests by the rules, AT_ONCE at a time, and hear each to its one end.

    Raises:
        Stuck: one has no end.
        AssertionError: one has more than that.
    """
    answers = Answers()
    with zmq.Context() as context:
        door = Door(context, endpoint)
        door.send(MAGIC, msgpack.packb({"type": "hello", "protocol": VERSION, "client": "fuzz"}))
        for number in range(0, count, AT_ONCE):
            labels = {f"a{number + index}" for index in range(min(AT_ONCE, count - number))}
            door.send(MAGIC, *map(mutants.asked, sorted(labels)))
            door.hear_ends(labels, answers)
        context.destroy(linger=200)
    return answers


async def flood_http(port: int, mutants: Mutants, count: int) -> Answers:
    """Send `count` requests, AT_ONCE at a time, each on a connection of its own.

    Raises:
        Stuck: a connection was neither answered nor closed.
    """
    answers = Answers()
    requests = (mutants.request() for _ in range(count))

    async def work() -> None:
        for request in requests:
            heard = await _exchange(port, request)
            statuses = [status.decode() for status in _STATUS.findall(heard)]
            answers.counts.update(statuses or ["closed"])
            if "500" in statuses:
                answers.internal.append(request)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return answers


async def _exchange(port: int, request: bytes) -> bytes:
    """All that comes back; a request that seems to have no end is ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    try:
        writer.write(request)
        reading = asyncio.ensure_future(reader.read())
        done, _ = await asyncio.wait([reading], timeout=UNFINISHED_S)
        if not done and writer.can_write_eof():
            writer.write_eof()
        heard = await asyncio.wait_for(reading, PATIENCE_S)
    except TimeoutError:
        raise Stuck(f"no end to {request!r}") from None
    except ConnectionError:
        return heard
    finally:
        writer.close()
    return heard


@dataclass(frozen=True)
class Holdings:
    """The resources that a process holds."""

    rss_bytes: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Holdings:
        """Read from /proc; raises FileNotFoundError where the process has ended."""
        statm = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        rss = int(statm[1]) * os.sysconf("SC_PAGE_SIZE")
        return cls(rss, len(os.listdir(f"/proc/{pid}/fd")))


async def left_behind(client: AsyncClient) -> int:
    """Requests still there, of any model, after the patience that all others got."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        models = (await client.stats()).models.values()
        busy = sum(stats.running + stats.waiting for stats in models)
        if not busy or time.monotonic() > end_s:
            return busy
        await asyncio.sleep(0.05)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The floods, and what they left behind."""
    result: dict[str, Any] = {}
    beside = [Bundle.open(path).name for path in options.beside]
    async with daemon(options.bundle, *options.beside, slots=8, context_tokens=512) as door:
        odd = Mutants(options.seed, model=door.model, beside=beside)
        meant = Mutants(options.seed, model=door.model, beside=beside, real_share=REAL_SHARE)
        result["frames"] = await _flood(door, options.frames, odd, 0, _frames)
        result["requests"] = await _flood(door, options.requests, odd, 1, _http)
        result["asks"] = await _flood(door, options.asks, meant, 0, _asks)
    return result


async def _frames(door: Daemon, mutants: Mutants, count: int) -> Answers:
    return await asyncio.to_thread(flood_frames, door.endpoint, mutants, count)


async def _http(door: Daemon, mutants: Mutants, count: int) -> Answers:
    return await flood_http(int(door.url.rpartition(":")[2]), mutants, count)


async def _asks(door: Daemon, mutants: Mutants, count: int) -> Answers:
    return await asyncio.to_thread(flood_asks, door.endpoint, mutants, count)


async def _flood(
    door: Daemon, count: int, mutants: Mutants, which: int, flood: Any
) -> dict[str, Any]:
    """One flood at process `which`, 0 the core and 1 the shim."""
    first = max(1, int(count * WARM_UP))
    began_s = time.perf_counter()
    early = await flood(door, mutants, first)
    before = [Holdings.of(pid) for pid in door.pids]
    answers = await flood(door, mutants, count - first)
    elapsed_s = time.perf_counter() - began_s
    async with AsyncClient(door.endpoint) as client:
        behind = await left_behind(client)
    after = [Holdings.of(pid) for pid in door.pids]
    return {
        "count": count,
        "seconds": elapsed_s,
        "answers": dict(early.counts + answers.counts),
        "internal": [each.hex() for each in early.internal + answers.internal],
        "left_behind": behind,
        "rss_bytes": [before[which].rss_bytes, after[which].rss_bytes],
        "descriptors": [before[which].descriptors, after[which].descriptors],
    }


def kept(figures: dict[str, Any]) -> bool:
    """Whether a flood left everything as it was."""
    first, last = figures["rss_bytes"]
    opened = figures["descriptors"][1] - figures["descriptors"][0]
    calm = not figures["internal"] and not figures["left_behind"]
    return calm and last <= 1.05 * first and opened <= 2


def main() -> int:
    """Flood, and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--frames", type=int, default=1_000_000)
    arguments.add_argument("--requests", type=int, default=100_000)
    arguments.add_argument("--asks", type=int, default=20_000)
    arguments.add_argument("--beside", type=Path, nargs="+", default=[], help="of other kinds")
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    result = asyncio.run(measure(options))
    for name, figures in result.items():
        first, last = (size / 2**20 for size in figures["rss_bytes"])
        say(
            f"{name}: {figures['count']} in {figures['seconds']:.0f} s, {figures['answers']}, "
            f"{len(figures['internal'])} internal, {figures['left_behind']} left behind, "
            f"RSS {first:.1f} to {last:.1f} MiB, descriptors {figures['descriptors']}"
        )
    described = chosen_of(options)
    emit({"bench": "fuzz", "options": described, **result}, options.json)
    return 0 if all(map(kept, result.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
