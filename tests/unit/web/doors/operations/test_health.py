"""What is here, and whether it works."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nsedge.api import Health, HealthStatus, ModelInfo
from nsedge.errors import ConnectionLost
from nsedge.web import doors
from nsedge.web.limits import WebLimits
from tests.fakes import FakeService
from tests.web_server import answered, error_of


@pytest.mark.parametrize("status", list(HealthStatus))
def test_health_is_200_only_when_ready(status: HealthStatus) -> None:
    answer = answered("GET", "/health", service=FakeService(status=status))
    assert answer.status == (200 if status is HealthStatus.READY else 503)
    assert answer.json["status"] == status.value
    assert "reason" in answer.json


class Gone(FakeService):
    async def health(self) -> Health:
        raise ConnectionLost("nobody listens at ipc:///run/core")

    async def models(self) -> tuple[ModelInfo, ...]:
        await asyncio.Event().wait()
        return ()


def test_a_core_that_cannot_be_reached() -> None:
    service, limits = Gone(), WebLimits(core_timeout_s=0.05)
    answer = answered("GET", "/health", service=service)
    assert answer.status == 503
    assert answer.json["status"] == "unreachable"
    assert answer.json["reason"] == "nobody listens at ipc:///run/core"
    assert answered("GET", "/live", service=service).status == 200
    silent = answered("GET", "/v1/models", service=service, limits=limits)
    assert (silent.status, error_of(silent)["code"]) == (503, "connection_lost")


def test_the_index_names_every_route() -> None:
    routes: Any = answered("GET", "/").json["routes"]
    assert "POST /v1/chat/completions" in routes
    assert "GET /v1/models/{name}" in routes
    assert "POST /api/models/load" in routes
    assert len(routes) == sum(len(door.routes) for door in doors.ALL)
