"""The demands on results, each with its figure, as far as a result holds it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.peers.servers import SSE, ZEROMQ
from bench.rounds import paired_ratio

Cell = Mapping[str, Any]


class Bound(enum.StrEnum):
    """Which side of the limit is the good one."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """A demand and what was found: `value` against `limit`; None where it was not measured."""

    what: str
    bound: Bound
    limit: float
    unit: str
    ours: float | None = None
    other: float | None = None
    value: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the value keeps the limit."""
        if self.value is None:
            return None
        if self.bound is Bound.AT_LEAST:
            return self.value >= self.limit
        return self.value <= self.limit


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Whose rows are compared."""

    ours: str
    peer: str
    engine_peer: str


THROUGHPUT = {1: 1.25, 4: 2.0, 8: 2.5, 16: 2.5}
IN_PROCESS = {1: 1.3, 8: 1.1, 16: 1.1, 32: 1.1}
MEMORY = {"private_dirty_mib": "private dirty", "peak_mib": "peak RSS"}
TIMES = "×"
SECONDS = "s"


def demands(cells: Sequence[Cell], roles: Roles, beside: Mapping[str, Any]) -> list[Demand]:
    """Every demand, in the order of their list; `beside` holds results of `bench.queue` and
    `bench.shape` by their names."""
    table = _Table(cells, roles)
    return [
        *table.throughput(),
        *table.in_process(),
        *table.first_token(),
        *table.arrivals(),
        *table.prefixes(),
        *table.memory_and_start(),
        table.share_of_bare(),
        *_queued(beside.get("queue")),
        *_shape(beside.get("shape")),
    ]


class _Table:
    def __init__(self, cells: Sequence[Cell], roles: Roles) -> None:
        self._cells, self._roles = cells, roles
        self._ours, self._peer = f"{roles.ours} {SSE}", f"{roles.peer} {SSE}"

    def throughput(self) -> Iterator[Demand]:
        """Tokens/s end to end, against the peer."""
        for count, limit in THROUGHPUT.items():
            where = {"scenario": "streams", "streams": count, "prompt_tokens": 100}
            what = f"throughput over SSE, {count} stream{'s' * (count > 1)}"
            ours, peer = self._cell(self._ours, **where), self._cell(self._peer, **where)
            yield _faster(what, limit, ours, peer, "tokens_per_s")

    def in_process(self) -> Iterator[Demand]:
        """The engine alone, against the strongest engine."""
        engine_peer = self._roles.engine_peer
        for rows, limit in IN_PROCESS.items():
            where = {"scenario": "decode", "rows": rows}
            ours = self._cell(self._roles.ours, **where)
            peer = self._cell(engine_peer, **where)
            what = f"engine in process, decode of {rows} row{'s' * (rows > 1)}"
            yield _faster(what, limit, ours, peer, "tokens_per_s")
        ours, peer = (self._cell(n, scenario="prefill") for n in (self._roles.ours, engine_peer))
        yield _faster("engine in process, prefill of 512", 1.2, ours, peer, "tokens_per_s")
        ours, peer = (
            self._cell(n, scenario="engine-memory") for n in (self._roles.ours, engine_peer)
        )
        yield from _held("engine in process", 0.6, ours, peer)

    def first_token(self) -> Iterator[Demand]:
        """Time to first token, against the peer."""
        for count, tokens, mark, what in (
            (8, 100, "p95", "TTFT p95, 8 streams"),
            (16, 100, "p95", "TTFT p95, 16 streams"),
            (4, 450, "p50", "TTFT p50, four prompts of 450 tokens at once"),
            (4, 900, "p50", "TTFT p50, four prompts of 900 tokens at once"),
        ):
            where = {"scenario": "streams", "streams": count, "prompt_tokens": tokens}
            ours, peer = self._cell(self._ours, **where), self._cell(self._peer, **where)
            first = "first_token_s"
            yield _smaller(what, 0.5, _mark(ours, first, mark), _mark(peer, first, mark))

    def arrivals(self) -> Iterator[Demand]:
        """Between tokens while long prompts arrive."""
        ours = self._cell(self._ours, scenario="arrivals")
        peer = self._cell(self._peer, scenario="arrivals")
        mine = _mark(ours, "disturbed_s", "p99")
        what = "inter-token p99 while 900-token prompts arrive, to the quiet median around each"
        value = _median(ours, "stretch")
        yield Demand(what=what, bound=Bound.AT_MOST, limit=2.0, unit=TIMES, value=value)
        what = "inter-token p99 while 900-token prompts arrive, to the quiet median before all"
        yield _smaller(what, 2.0, mine, _mark(ours, "quiet_s", "p50"))
        what = "inter-token p99 while 900-token prompts arrive, to the peer's"
        yield _smaller(what, 1.0, mine, _mark(peer, "disturbed_s", "p99"))

    def prefixes(self) -> Iterator[Demand]:
        """First token after a known prefix, to our own cold one."""
        ours = self._cell(self._ours, scenario="prefixes")
        cold = _mark(ours, "cold_s", "p50")
        for key, what in (("shared_s", "shared system prompt"), ("growing_s", "growing chat")):
            warm = _mark(ours, key, "p50")
            yield _smaller(f"TTFT after a known 900-token prefix, {what}", 0.15, warm, cold)

    def memory_and_start(self) -> Iterator[Demand]:
        """Memory and start, against the peer."""
        names = (self._roles.ours, self._roles.peer)
        ours, peer = (self._cell(name, scenario="memory") for name in names)
        yield from _held("16 slots of 1,024 tokens, both our processes", 0.7, ours, peer)
        ours, peer = (self._cell(name, scenario="readiness") for name in names)
        ready = _median(ours, "ready_seconds")
        yield Demand(
            what="exec to READY", bound=Bound.AT_MOST, limit=1.5, unit=SECONDS,
            ours=ready, value=ready,
        )  # fmt: skip
        yield _smaller("exec to READY, to the peer's", 2.0, ready, _median(peer, "http_seconds"))

    def share_of_bare(self) -> Demand:
        """The share of the bare engine's speed that reaches ZeroMQ clients."""
        ours = self._cell(f"{self._roles.ours} {ZEROMQ}", scenario="bare", streams=16)
        bare = self._cell(f"{self._roles.ours} bare engine", scenario="bare", streams=16)
        what = "share of the bare engine that reaches ZeroMQ clients, 16 streams"
        return _faster(what, 0.95, ours, bare, "tokens_per_s")

    def _cell(self, contender: str, **where: object) -> Cell | None:
        wanted = {"contender": contender, **where}
        for cell in self._cells:
            if all(cell.get(key) == value for key, value in wanted.items()):
                return cell
        return None


def _held(where: str, limit: float, ours: Cell | None, peer: Cell | None) -> Iterator[Demand]:
    """Memory that cannot be taken back from a process, and the most that was resident of it."""
    for key, what in MEMORY.items():
        yield _smaller(f"{where}, {what}", limit, _median(ours, key), _median(peer, key))


def _median(cell: Cell | None, key: str) -> float | None:
    return _mark(cell, key, "median")


def _mark(cell: Cell | None, key: str, mark: str) -> float | None:
    if cell is None or mark not in cell.get(key, {}):
        return None
    return float(cell[key][mark])


def _faster(what: str, limit: float, ours: Cell | None, other: Cell | None, key: str) -> Demand:
    """The median of the rounds' own ratios must be `limit` at least."""
    ratio = None
    if ours is not None and other is not None:
        ratio = paired_ratio(ours[key]["rounds"], other[key]["rounds"])
    return Demand(
        what=what, bound=Bound.AT_LEAST, limit=limit, unit=TIMES,
        ours=_median(ours, key), other=_median(other, key), value=ratio,
    )  # fmt: skip


def _smaller(what: str, limit: float, ours: float | None, other: float | None) -> Demand:
    """The ratio must be `limit` at most."""
    known = ours is not None and other
    return Demand(
        what=what, bound=Bound.AT_MOST, limit=limit, unit=TIMES, ours=ours, other=other,
        value=ours / other if known and ours is not None and other is not None else None,
    )  # fmt: skip


def _queued(result: Mapping[str, Any] | None) -> Iterator[Demand]:
    """The cost at the longest queue against the shortest."""
    for part, what in (("admission", "admission"), ("step", "a step")):
        value = None if result is None else float(result["ratio"][part])
        what = f"{what} at 10,000 queued, to 10 queued"
        yield Demand(what=what, bound=Bound.AT_MOST, limit=1.1, unit=TIMES, value=value)


def _shape(result: Mapping[str, Any] | None) -> Iterator[Demand]:
    """Random weights in the shape of a larger model, against llama.cpp and the memory's speed."""
    decode = {} if result is None else result["decode"]
    for count, limit in (("1", 1.0), ("8", 1.5)):
        found = decode.get(count, {})
        yield Demand(
            what=f"random weights in the shape of Llama-3.2-1B, 4-bit, streams: {count}",
            bound=Bound.AT_LEAST,
            limit=limit,
            unit=TIMES,
            ours=found.get("tokens_per_s"),
            other=found.get("llama_tokens_per_s"),
            value=found.get("ratio"),
        )
    bound = (result or {}).get("bound") or {}
    yield Demand(
        what="the same, one stream, to the memory-bandwidth bound",
        bound=Bound.AT_LEAST,
        limit=0.85,
        unit=TIMES,
        other=bound.get("tokens_per_s"),
        value=bound.get("share"),
    )


HEAD = ("demand", "limit", "ours", "other", "value", "reached")


def rows(found: Sequence[Demand]) -> list[tuple[str, ...]]:
    """For a table under `HEAD`."""
    return [
        (
            demand.what,
            f"{demand.bound} {demand.limit:g} {demand.unit}",
            _number(demand.ours),
            _number(demand.other),
            _number(demand.value),
            {True: "yes", False: "no", None: "not measured"}[demand.reached],
        )
        for demand in found
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
