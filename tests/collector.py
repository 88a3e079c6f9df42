"""A collector of spans on a free loopback port, that reads OTLP/HTTP as the standard has it."""

from __future__ import annotations

import gzip
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector:
    """What came, and how it answers."""

    port: int
    status: int = HTTPStatus.OK
    requests: queue.SimpleQueue[ExportTraceServiceRequest] = field(
        default_factory=queue.SimpleQueue
    )
    paths: set[str] = field(default_factory=set)
    resource: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spans(self) -> dict[str, Span]:
        """All that came so far, by name."""
        found = {}
        while not self.requests.empty():
            for group in self.requests.get().resource_spans:
                self.resource = attributes(group.resource.attributes)
                for scope in group.scope_spans:
                    found |= {span.name: span for span in scope.spans}
        return found


def attributes(pairs: Any) -> dict[str, Any]:
    """Of a span, as Python has them."""
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    if value.WhichOneof("value") == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, str(value.WhichOneof("value")))


@contextmanager
def collecting() -> Iterator[Collector]:
    """It listens until the block is left."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.paths.add(self.path)
            if collector.status == HTTPStatus.OK:
                collector.requests.put(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        collector = Collector(port=server.server_address[1])
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield collector
        finally:
            server.shutdown()
            serving.join()
