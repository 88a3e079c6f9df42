"""The contract suite over the real service with the real model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nsedge.core.service import LocalService, ServiceSettings
from nsedge.runtime.settings import EngineSettings
from tests.contract import subjects, test_models, test_service

pytestmark = pytest.mark.integration
SCENARIOS = {
    name: scenario
    for module in (test_service, test_models)
    for name, scenario in vars(module).items()
    if name.startswith("test_")
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_the_service_keeps_the_contract(
    scenario: Callable[[str], None], starter_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.asynccontextmanager
    async def local() -> AsyncIterator[subjects.Subject]:
        service = LocalService(
            ServiceSettings(
                bundles=(starter_bundle,),
                engine=EngineSettings(context_tokens=1024),
                max_untaken_events=32,
            )
        )
        await service.start()
        try:
            yield subjects.Subject(service=service, model=starter_bundle.name)
        finally:
            await service.stop()

    monkeypatch.setitem(subjects.SUBJECTS, "local", local)
    scenario("local")
