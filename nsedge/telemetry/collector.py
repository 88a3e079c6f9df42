"""Spans to a collector, where one is wanted and the extra `telemetry` is installed."""

from __future__ import annotations

from nsedge.errors import ConfigInvalid
from nsedge.telemetry.tracing import Tracing


def open_tracing(url: str, *, service: str) -> Tracing | None:
    """Spans go to `url`, from now on; None where that is empty.

    service: the process's name, where OTEL_SERVICE_NAME says nothing else.

    Raises:
        ConfigInvalid: where the extra `telemetry` is not installed.
    """
    if not url:
        return None
    try:
        from nsedge.telemetry.otlp import OtlpTracing
    except ImportError as error:
        raise ConfigInvalid(
            f"traces are to go to {url}, which needs: pip install 'nsedge[telemetry]' ({error})",
            param="observability.otlp_endpoint",
        ) from error
    return OtlpTracing(url, service=service)
