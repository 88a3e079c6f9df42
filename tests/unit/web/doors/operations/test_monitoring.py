"""Metrics as Prometheus reads them, the page that draws them, and what the shim counts and logs."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from nsedge.api import Stats
from nsedge.errors import ConnectionLost
from tests.fakes import MODEL, FakeService
from tests.unit.sample_stats import MIB, Busy
from tests.web_server import Shim, answered, ask, served

DOCS = Path(__file__).parents[5] / "docs"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "one two"}]}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def page(service: FakeService | None = None) -> dict[str, Metric]:
    seen: dict[str, Metric] = {}

    async def test(shim: Shim) -> None:
        await ask(shim.port, "GET", "/live")  # so that there is traffic to tell of
        answer = await ask(shim.port, "GET", "/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        seen.update(families(answer.body.decode()))

    served(test, service or Busy())
    return seen


def values(family: Metric, **labels: str) -> list[float]:
    wanted = labels.items()
    return [one.value for one in family.samples if wanted <= one.labels.items()]


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("num_requests_running", {"model_name": "echo"}, 2),
        ("num_requests_waiting", {"model_name": "echo"}, 1),
        ("num_request_slots", {"model_name": "echo"}, 4),
        ("kv_cache_usage_perc", {"model_name": "echo"}, 0.25),
        ("prompt_tokens", {"model_name": "echo"}, 100),
        ("texts", {"model_name": "echo"}, 30),
        ("images", {"model_name": "echo"}, 20),
        ("audio_seconds", {"model_name": "echo"}, 60.0),
        ("generation_tokens", {"model_name": "echo"}, 40),
        ("prefix_cache_queries", {"model_name": "echo"}, 100),
        ("prefix_cache_hits", {"model_name": "echo"}, 25),
        ("num_preemptions", {"model_name": "echo"}, 1),
        ("request_success", {"model_name": "echo", "finished_reason": "stop"}, 3),
        ("request_failure", {"code": "queue_full"}, 2),
        ("model_memory_bytes", {"model_name": "echo", "part": "weights"}, 100 * MIB),
        ("model_memory_bytes", {"model_name": "echo", "part": "device"}, 3 * MIB),
        ("memory_budget_bytes", {"device": "host"}, 500 * MIB),
        ("memory_used_bytes", {"device": "gpu"}, 3 * MIB),
        ("model_evictions", {}, 1),
        ("model_load_failures", {}, 1),
        ("model_info", {"model_name": "coming"}, 1),
        ("model_state", {"model_name": "coming", "state": "loading"}, 1),
        ("model_state", {"model_name": "coming", "state": "ready"}, 0),
        ("model_last_load_seconds", {"model_name": "echo"}, 1.5),
        ("core_up", {}, 1),
        ("core_ready", {}, 1),
    ],
)
def test_the_core_is_told(name: str, labels: dict[str, str], value: float) -> None:
    assert values(page()[f"nsedge_{name}"], **labels) == [value]


@pytest.mark.parametrize(
    "name",
    [
        "request_queue_time",
        "request_prefill_time",
        "time_to_first_token",
        "inter_token_latency",
        "e2e_request_latency",
        "engine_step_time",
    ],
)
def test_histograms_are_cumulative(name: str) -> None:
    family = page()[f"nsedge_{name}_seconds"]
    assert family.type == "histogram"
    told = {one.name.removeprefix(family.name) + one.labels.get("le", ""): one.value
            for one in family.samples}  # fmt: skip
    assert told == {
        "_bucket0.01": 1, "_bucket0.1": 3, "_bucket1.0": 4, "_bucket+Inf": 4,
        "_sum": 0.5, "_count": 4,
    }  # fmt: skip


def test_both_event_loops_are_told() -> None:
    family = page()["nsedge_event_loop_lag_seconds"]
    assert values(family, process="core")
    assert values(family, process="web")


def test_a_label_can_say_anything() -> None:
    class Odd(Busy):
        async def stats(self) -> Stats:
            told = await super().stats()
            told.models['a"b\\c\nd'] = told.models.pop("echo")
            return told

    assert values(page(Odd())["nsedge_num_requests_running"], model_name='a"b\\c\nd') == [2]


def test_without_the_core_the_shim_speaks_for_itself() -> None:
    class Gone(FakeService):
        async def stats(self) -> Stats:
            raise ConnectionLost("no daemon there")

    told = page(Gone())
    assert values(told["nsedge_core_up"]) == [0]
    assert "nsedge_http_requests_in_progress" in told
    assert "nsedge_num_requests_running" not in told
    assert answered("GET", "/api/stats", service=Gone()).status == 503


def test_answers_are_counted_by_route_and_status() -> None:
    seen: dict[str, Metric] = {}

    async def test(shim: Shim) -> None:
        await ask(shim.port, "POST", "/v1/chat/completions", CHAT)
        await ask(shim.port, "POST", "/v1/chat/completions", {"model": "none"})
        await ask(shim.port, "GET", "/made/up")
        await ask(shim.port, "PATCH", "/live")
        seen.update(families((await ask(shim.port, "GET", "/metrics")).body.decode()))

    served(test)
    answers = seen["nsedge_http_requests"]
    chat = {"route": "/v1/chat/completions", "method": "POST"}
    assert values(answers, status="200", **chat) == [1]
    assert values(answers, status="400", **chat) == [1]
    assert values(answers, route="none", method="GET", status="404") == [1]
    assert values(answers, method="OTHER") == [1]
    assert values(seen["nsedge_http_requests_in_progress"]) == [1]  # the scrape itself


def test_an_answer_is_logged_with_its_request_and_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "nsedge.web.requests")
    answered("POST", "/v1/chat/completions", CHAT, x_request_id="mine-1", traceparent=TRACE)
    (record,) = caplog.records
    told = vars(record)
    assert (told["request_id"], told["route"], told["status"], told["caller"]) == (
        "mine-1", "/v1/chat/completions", 200, "anonymous",
    )  # fmt: skip
    assert told["traceparent"] == TRACE
    assert "one two" not in json.dumps(told, default=str)


def test_who_only_looks_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nsedge.web.requests")
    answered("GET", "/metrics")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (TRACE, TRACE),
        ("", None),
        (f"{TRACE}\u00a0", None),
        (TRACE.upper(), None),
        (f"ff{TRACE[2:]}", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
    ],
)
def test_a_trace_context_goes_to_the_core_where_it_is_one(given: str, passed: str | None) -> None:
    class Noting(FakeService):
        def submit(self, request: Any, sink: Any) -> Any:
            noted.append(request.traceparent)
            return super().submit(request, sink)

    noted: list[str | None] = []
    answered("POST", "/v1/chat/completions", CHAT, service=Noting(), traceparent=given)
    assert noted == [passed]


def test_statistics_as_json() -> None:
    told: Any = answered("GET", "/api/stats", service=Busy()).json
    assert told["health"]["status"] == "ready"
    assert told["stats"]["models"]["echo"]["times"]["step"]["counts"] == [1, 2, 1, 0]
    assert [one["name"] for one in told["models"]] == ["echo", "coming", "asleep"]
    assert told["models"][0]["keep_alive_s"] is None  # JSON has no number without end


def test_the_page_may_run_what_is_in_it_and_nothing_else() -> None:
    answer = answered("GET", "/dashboard")
    policy = answer.headers["content-security-policy"]
    text = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" in (
        policy
    )
    for kind in ("script", "style"):
        ((content),) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"""\b(src|href|style|on\w+)\s*=\s*["']|innerHTML|https?://(?!www\.w3)""",
                         text)  # fmt: skip


def test_the_page_draws_fields_that_there_are() -> None:
    text = answered("GET", "/dashboard").body.decode()
    told: Any = answered("GET", "/api/stats", service=Busy()).json
    model = told["stats"]["models"]["echo"]
    known = {*told["stats"], *model, *model["times"], *model["memory"], *told["models"][0],
             *told["health"], *model["times"]["step"], *told["stats"]["residency"]}  # fmt: skip
    drawn = set(re.findall(r"\.([a-z]+(?:_[a-z]+)+)\b", text))
    drawn |= set(re.findall(r'spread\(w, "(\w+)"\)', text))
    assert len(drawn) > 15
    assert drawn <= known


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bnsedge_[a-z0-9_]+", text))


def rendered() -> set[str]:
    """Every name that a sample has."""
    return {one.name for family in page().values() for one in family.samples}


def test_the_grafana_dashboard_asks_for_metrics_that_there_are() -> None:
    board = json.loads((DOCS / "grafana" / "nsedge.json").read_text(encoding="utf-8"))
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(asked) > 20
    assert names_in(" ".join(asked)) <= rendered()
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_metric_is_on_the_page_of_metrics() -> None:
    text = (DOCS / "observability.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(nsedge_\w+)`", text, re.MULTILINE))
    told = {f"{family.name}_total" if family.type == "counter" else family.name
            for family in page().values()}  # fmt: skip
    assert listed == told
