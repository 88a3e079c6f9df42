"""Spans to an OpenTelemetry collector over OTLP/HTTP, on a thread of the SDK's own.

The SDK reads the standard OTEL_* variables itself: headers, certificates, timeouts, sampling,
batches and the resource.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace import SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from nsedge.telemetry.tracing import Attributes, Phase, Span
from nsedge.version import VERSION

log = logging.getLogger(__name__)

CLOSING_S = 1.0
"""The time for the last spans to leave, and, where they do not, to be counted."""
TELL_S = 60.0
"""Between two lines about a collector that cannot be reached."""
_NS = 1_000_000_000
_W3C = TraceContextTextMapPropagator()
Clock = Callable[[], int]


class OtlpTracing:
    """Implements `nsedge.telemetry.tracing.Tracing`.

    - url: where a collector takes traces, such as `http://localhost:4318/v1/traces`.
    - wall_ns, clock_ns: what is stamped, and what durations are measured by.
    """

    def __init__(
        self,
        url: str,
        *,
        service: str,
        wall_ns: Clock = time.time_ns,
        clock_ns: Clock = time.monotonic_ns,
    ) -> None:
        self._wall_ns, self._clock_ns = wall_ns, clock_ns
        named = Resource.create({SERVICE_NAME: service, SERVICE_VERSION: VERSION})
        self._provider = TracerProvider(
            resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self.exporter = CountingExporter(OTLPSpanExporter(endpoint=url))
        self._provider.add_span_processor(BatchSpanProcessor(self.exporter))
        self._tracer = self._provider.get_tracer("nsedge", VERSION)

    def begin(self, name: str, *, parent: str | None, attributes: Attributes) -> Span:
        """As `Tracing` says."""
        context = _W3C.extract({"traceparent": parent} if parent else {})
        stamp_ns = self._wall_ns()
        span = self._tracer.start_span(
            name,
            context,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=stamp_ns,
        )
        return OtlpSpan(self._tracer, span, stamp_ns=stamp_ns, clock_ns=self._clock_ns)

    def close(self) -> None:
        """As `Tracing` says: for no longer than twice `CLOSING_S`, whatever the collector does."""
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(CLOSING_S)
        if ending.is_alive():
            self.exporter.shutdown()  # ends its pause between two attempts
            ending.join(CLOSING_S)
        self.exporter.tell()


class OtlpSpan:
    """Implements `tracing.Span`. A wall clock that is set meanwhile does not bend it."""

    def __init__(self, tracer: Tracer, span: SdkSpan, *, stamp_ns: int, clock_ns: Clock) -> None:
        self._tracer, self._span = tracer, span
        self._stamp_ns, self._clock_ns = stamp_ns, clock_ns
        self._began_ns = clock_ns()

    @property
    def traceparent(self) -> str | None:
        """As `Span` says."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, set_span_in_context(self._span))
        return carrier.get("traceparent")

    def phase(self, phase: Phase, begin_s: float, end_s: float) -> None:
        """As `Span` says."""
        part = self._tracer.start_span(
            phase.value,
            set_span_in_context(self._span),
            start_time=self._stamp_ns + round(begin_s * _NS),
        )
        part.end(self._stamp_ns + round(end_s * _NS))

    def end(self, attributes: Attributes, *, error: str | None = None) -> None:
        """As `Span` says."""
        self._span.set_attributes(attributes)
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end(self._stamp_ns + self._clock_ns() - self._began_ns)


class CountingExporter(SpanExporter):
    """Counts what does not get through, and says so now and then in one line. On the SDK's thread,
    whose own loggers would tell every attempt."""

    def __init__(self, exporter: SpanExporter, *, clock: Callable[[], float] = time.monotonic):
        self._exporter = exporter
        self._clock = clock
        self.lost = 0
        """Spans, since the start."""
        self._told = 0
        self._told_s: float | None = None
        for noisy in ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Pass them on."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.lost += len(spans)
            now_s = self._clock()
            if self._told_s is None or now_s - self._told_s >= TELL_S:
                self._told_s = now_s
                self.tell()
        return result

    def tell(self) -> None:
        """Log what was lost since that was last told; nothing where nothing was."""
        if self.lost > self._told:
            log.warning(
                "spans do not reach the collector, and are dropped",
                extra={"lost": self.lost - self._told, "lost_in_all": self.lost},
            )
            self._told = self.lost

    def shutdown(self) -> None:
        """Pass it on."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Pass it on."""
        return self._exporter.force_flush(timeout_millis)
