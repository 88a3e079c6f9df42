"""Spans of requests, as a collector reads them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from bench.daemon import free_port
from nsedge.api import Failed, Finished, FinishReason, Generate, Request, Timings, Usage
from nsedge.config import reader as config
from nsedge.core.journal import Journal
from nsedge.errors import ConfigInvalid, QueueFull
from nsedge.telemetry.collector import open_tracing
from nsedge.telemetry.otlp import OtlpTracing
from tests.collector import Collector, attributes, collecting
from tests.fakes import MODEL, FakeService
from tests.web_server import running

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
SECRET = "nobody may read this"
SECOND_NS = 1_000_000_000


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(variable, raising=False)
    with collecting() as made:
        yield made


def tracing_to(collector: Collector, **clocks: object) -> OtlpTracing:
    return OtlpTracing(f"{collector.url}/v1/traces", service="nsedge-core", **clocks)  # type: ignore[arg-type]


def asked(trace: str | None = PARENT) -> Request:
    task = Generate(text=SECRET)
    return Request(request_id="r1", model="m", task=task, traceparent=trace)


def finished(*, decode_s: float = 1.0) -> Finished:
    return Finished(
        request_id="r1",
        reason=FinishReason.LENGTH,
        usage=Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=2),
        timings=Timings(queue_s=0.25, prefill_s=0.5, decode_s=decode_s),
    )


def seconds(span: Span) -> tuple[float, float]:
    return span.start_time_unix_nano / SECOND_NS, span.end_time_unix_nano / SECOND_NS


def test_a_request_is_a_span_with_its_phases_and_no_text(collector: Collector) -> None:
    now = iter([10 * SECOND_NS, 12 * SECOND_NS])
    tracing = tracing_to(collector, wall_ns=lambda: 100 * SECOND_NS, clock_ns=lambda: next(now))
    journal = Journal(tracing=tracing)
    journal.ended(asked(), finished(), journal.began(asked()))
    tracing.close()
    raw = collector.requests.get(timeout=60)
    assert SECRET.encode() not in raw.SerializeToString()
    collector.requests.put(raw)
    spans = collector.spans()
    assert set(spans) == {"text_completion m", "queue", "prefill", "decode"}
    whole = spans.pop("text_completion m")
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert whole.kind == Span.SPAN_KIND_SERVER
    assert seconds(whole) == (100.0, 102.0)
    assert attributes(whole.attributes) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.request.model": "m",
        "nsedge.request_id": "r1",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.response.finish_reasons": ["length"],
    }
    assert {name: seconds(span) for name, span in spans.items()} == {
        "queue": (100.0, 100.25),
        "prefill": (100.25, 100.75),
        "decode": (100.75, 101.75),
    }
    assert {span.parent_span_id for span in spans.values()} == {whole.span_id}
    assert collector.resource["service.name"] == "nsedge-core"
    assert collector.paths == {"/v1/traces"}


def test_a_phase_that_never_came_has_no_span(collector: Collector) -> None:
    tracing = tracing_to(collector)
    journal = Journal(tracing=tracing)
    journal.ended(asked(), finished(decode_s=0.0), journal.began(asked()))
    tracing.close()
    assert "decode" not in collector.spans()


def test_a_request_that_failed_says_with_what(collector: Collector) -> None:
    tracing = tracing_to(collector)
    journal = Journal(tracing=tracing)
    failed = Failed.of("r1", QueueFull(f"{SECRET} is in no span"))
    journal.ended(asked(None), failed, journal.began(asked(None)))
    tracing.close()
    (span,) = collector.spans().values()
    assert span.parent_span_id == b""
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes(span.attributes)["error.type"] == QueueFull.code
    assert SECRET not in str(span)


@pytest.mark.parametrize("parent", [PARENT[:-1] + "0", PARENT])
def test_who_is_not_sampled_upstream_is_not_sent(collector: Collector, parent: str) -> None:
    tracing = tracing_to(collector)
    span = tracing.begin("x", parent=parent, attributes={})
    assert span.traceparent is not None
    assert span.traceparent.split("-")[1::2] == [TRACE_ID, parent[-2:]]
    span.end({})
    tracing.close()
    assert bool(collector.spans()) == parent.endswith("1")


def test_the_environment_names_the_service(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "kitchen")
    tracing = tracing_to(collector)
    tracing.begin("x", parent=None, attributes={}).end({})
    tracing.close()
    collector.spans()
    assert collector.resource["service.name"] == "kitchen"


def test_the_shim_is_between_its_caller_and_the_core(collector: Collector) -> None:
    """Its span is the caller's child, and what the core is told to be a child of."""
    tracing, service = tracing_to(collector), FakeService()
    body = {"model": MODEL, "prompt": SECRET}

    async def scene() -> None:
        async with running(service, tracing=tracing) as shim, aiohttp.ClientSession() as web:
            url = f"{shim.url}/v1/completions"
            headers = {"traceparent": PARENT, "x-request-id": "r7"}
            async with web.post(url, json=body, headers=headers) as response:
                assert response.status == 200
            async with web.get(f"{shim.url}/health") as response:
                assert response.status == 200

    asyncio.run(asyncio.wait_for(scene(), 60))
    tracing.close()
    (span,) = collector.spans().values()
    assert span.name == "POST /v1/completions"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert attributes(span.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/completions",
        "http.response.status_code": 200,
        "nsedge.request_id": "r7",
    }
    (request,) = service.requests
    assert request.traceparent == f"00-{TRACE_ID}-{span.span_id.hex()}-01"


def test_a_collector_that_takes_nothing_costs_a_counted_line(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = HTTPStatus.BAD_REQUEST
    with caplog.at_level(logging.WARNING):
        tracing = tracing_to(collector)
        for _ in range(3):
            tracing.begin("x", parent=None, attributes={}).end({})
        tracing.close()
    (line,) = caplog.records
    assert (line.name, line.__dict__["lost"]) == ("nsedge.telemetry.otlp", 3)
    assert tracing.exporter.lost == 3


def test_a_collector_that_is_not_there_holds_up_no_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tracing = OtlpTracing(f"http://127.0.0.1:{free_port()}/v1/traces", service="nsedge-core")
        tracing.begin("x", parent=None, attributes={}).end({})
        tracing.close()
    (line,) = caplog.records
    assert (line.name, line.__dict__["lost"]) == ("nsedge.telemetry.otlp", 1)


def printed(script: str) -> str:
    """What a fresh interpreter prints."""
    words = [sys.executable, "-c", script]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_without_the_packages_the_start_is_refused() -> None:
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from nsedge.errors import ConfigInvalid\n"
        "from nsedge.telemetry.collector import open_tracing\n"
        "assert open_tracing('', service='s') is None\n"
        "try: open_tracing('http://x', service='s')\n"
        "except ConfigInvalid as error: print(error.message)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "pip install 'nsedge[telemetry]'" in said.stdout


def test_nothing_is_imported_where_nothing_is_asked_for() -> None:
    script = "import sys, nsedge.cli.serve, nsedge.cli.web; print('opentelemetry' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout == "False\n"
    assert open_tracing("", service="s") is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/in",
            },
            "http://t/in",
        ),
        (
            {
                "NSEDGE_OBSERVABILITY_OTLP_ENDPOINT": "https://ours",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/in",
            },
            "https://ours/v1/traces",
        ),
    ],
)
def test_where_spans_go(said: dict[str, str], expected: str, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), **said}
    assert config.traces_url(config.load(environ).settings, environ) == expected


def test_a_collector_has_a_url(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "NSEDGE_OBSERVABILITY_OTLP_ENDPOINT": "localhost:4318"}
    with pytest.raises(ConfigInvalid, match="otlp_endpoint"):
        config.load(environ)
