"""What a real request leaves in metrics, log and the terminal's view."""

from __future__ import annotations

import json
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporters.bundle.starter import NAME as STARTER
from tests.integration.test_cli import LIMIT_S, make_place

pytestmark = pytest.mark.integration
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ASKED = "Name the capital of France."


def post(url: str) -> None:
    body = {"model": STARTER, "messages": [{"role": "user", "content": ASKED}], "max_tokens": 9,
            "ignore_eos": True}  # fmt: skip
    headers = {
        "Content-Type": "application/json",
        "X-Request-Id": "seen-1",
        "Traceparent": TRACE,
    }
    asking = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asking, timeout=LIMIT_S) as answer:
        assert answer.status == 200


def metrics(url: str) -> dict[str, float]:
    """Samples without labels but for their buckets, by name."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=LIMIT_S) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {one.name: one.value for family in families for one in family.samples}


def test_a_request_is_seen_everywhere(tmp_path, starter_bundle):
    place = make_place(tmp_path, starter_bundle)
    place.environ["NSEDGE_WEB_PORT"] = "0"
    with (
        place.running("serve", "--json") as core,
        place.running("web", "--json") as shim,
    ):
        url = next(line["address"] for line in map(json.loads, shim.stdout) if "address" in line)
        lines = map(json.loads, core.stdout)
        assert any(line["message"] == "ready" for line in lines)
        post(f"{url}/v1/chat/completions")

        ended = next(line for line in lines if line["logger"] == "nsedge.requests")
        answered = next(line for line in map(json.loads, shim.stdout) if "seconds" in line)
        assert ended["request_id"] == answered["request_id"] == "seen-1"
        assert ended["traceparent"] == answered["traceparent"] == TRACE
        assert (ended["reason"], ended["completion_tokens"]) == ("length", 9)
        assert ASKED not in json.dumps([ended, answered])

        told = metrics(url)
        assert told["nsedge_time_to_first_token_seconds_count"] == 1
        assert told["nsedge_inter_token_latency_seconds_count"] == 8
        assert told["nsedge_e2e_request_latency_seconds_count"] == 1
        assert told["nsedge_generation_tokens_total"] == 9
        assert told["nsedge_model_load_time_seconds_count"] == 1
        whole_s = told["nsedge_e2e_request_latency_seconds_sum"]
        assert 0 < told["nsedge_time_to_first_token_seconds_sum"] < whole_s < LIMIT_S
        assert told["nsedge_engine_step_time_seconds_sum"] <= whole_s

        view = place.nsedge("top", "--once", "--interval", "0.1")
        assert view.returncode == 0
        assert f"{STARTER}" in view.stdout
