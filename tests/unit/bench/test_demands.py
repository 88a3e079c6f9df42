"""The table of demands: each from its own cells, unknown where they were not measured."""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.demands import HEAD, Bound, Demand, Roles, demands, rows

ROLES = Roles(ours="nsedge x", peer="peer", engine_peer="engine")


def rate(*rounds: float) -> dict[str, Any]:
    return {"median": sorted(rounds)[len(rounds) // 2], "rounds": list(rounds)}


def marks(p50: float, p95: float, p99: float) -> dict[str, float]:
    return {"p50": p50, "p95": p95, "p99": p99}


def by_name(cells: list[dict[str, Any]]) -> dict[str, Demand]:
    return {demand.what: demand for demand in demands(cells, ROLES, {})}


def streams(contender: str, count: int, tokens: int, *rounds: float, p95: float) -> dict[str, Any]:
    return {
        "scenario": "streams",
        "contender": contender,
        "streams": count,
        "prompt_tokens": tokens,
        "tokens_per_s": rate(*rounds),
        "first_token_s": marks(p95 / 2, p95, p95),
    }


def test_without_cells_nothing_is_reached_or_missed() -> None:
    found = demands([], ROLES, {})
    assert len(found) == 30
    assert all(demand.reached is None for demand in found)
    assert {row[-1] for row in rows(found)} == {"not measured"}


def test_throughput_compares_http_with_http() -> None:
    found = by_name(
        [
            streams("nsedge x ZeroMQ", 8, 100, 999.0, p95=0.1),
            streams("nsedge x SSE", 8, 100, 250.0, 260.0, 240.0, p95=1.0),
            streams("peer SSE", 8, 100, 100.0, 100.0, 100.0, p95=1.6),
        ]
    )
    demand = found["throughput over SSE, 8 streams"]
    assert (demand.ours, demand.other, demand.value) == (250.0, 100.0, 2.5)
    assert demand.reached is True
    late = found["TTFT p95, 8 streams"]
    assert late.value == 0.625
    assert late.reached is False
    assert found["throughput over SSE, 16 streams"].reached is None


def test_gaps_are_held_to_our_own_quiet_ones_and_to_the_peers() -> None:
    quiet, ours, theirs = marks(0.02, 0.03, 0.04), marks(0.02, 0.03, 0.039), marks(0.1, 0.2, 0.3)
    found = by_name(
        [
            {
                "scenario": "arrivals",
                "contender": "nsedge x SSE",
                "quiet_s": quiet,
                "disturbed_s": ours,
                "stretch": rate(2.1),
            },
            {"scenario": "arrivals", "contender": "peer SSE", "disturbed_s": theirs},
        ]
    )
    name = "inter-token p99 while 900-token prompts arrive, to the quiet median"
    assert found[f"{name} around each"].reached is False
    own = found[f"{name} before all"]
    assert own.value is not None
    assert abs(own.value - 1.95) < 1e-9
    assert own.reached is True
    assert found["inter-token p99 while 900-token prompts arrive, to the peer's"].reached is True


def test_start_is_held_to_seconds_and_to_the_peer() -> None:
    found = by_name(
        [
            {
                "scenario": "readiness",
                "contender": "nsedge x",
                "ready_seconds": rate(1.2),
                "http_seconds": rate(1.3),
            },
            {"scenario": "readiness", "contender": "peer", "http_seconds": rate(0.5)},
        ]
    )
    assert found["exec to READY"].reached is True
    assert found["exec to READY, to the peer's"].reached is False


def test_what_other_benchmarks_measured_is_judged_beside() -> None:
    shape = {
        "decode": {"1": {"tokens_per_s": 30.0, "llama_tokens_per_s": 25.0, "ratio": 1.2}},
        "bound": {"tokens_per_s": 40.0, "share": 0.75},
    }
    queue = {"ratio": {"admission": 1.02, "step": 1.3}}
    found = {d.what: d for d in demands([], ROLES, {"shape": shape, "queue": queue})}
    assert found["admission at 10,000 queued, to 10 queued"].reached is True
    assert found["a step at 10,000 queued, to 10 queued"].reached is False
    name = "random weights in the shape of Llama-3.2-1B, 4-bit, streams: "
    assert found[f"{name}1"].reached is True
    assert found[f"{name}8"].reached is None
    assert found["the same, one stream, to the memory-bandwidth bound"].reached is False


def test_a_row_tells_the_limit_and_the_figures() -> None:
    demand = Demand(
        what="speed", bound=Bound.AT_LEAST, limit=2.5, unit="×", ours=250.0, other=100.0, value=2.5
    )
    assert rows([demand]) == [("speed", "≥ 2.5 ×", "250", "100", "2.5", "yes")]
    missed = dataclasses.replace(demand, value=2.49)
    assert rows([missed])[0][-1] == "no"
    assert len(HEAD) == len(rows([demand])[0])
