"""Memory of models that see: the encoder counts before anything is loaded, and where there is no
room the request is refused with figures."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath

import pytest

from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import VisionLm
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.errors import InsufficientMemory
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.hosting.kinds import expected
from nsedge.runtime.machine.amounts import Room
from nsedge.runtime.residency.settings import ResidencySettings
from nsedge.runtime.settings import EngineSettings
from tests.export.tiny_vision_lms import write_vision_folder
from tests.export.vision_rig import GREEDY, PICTURES, Bundles, said
from tests.ipc import serving

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]


@pytest.fixture
def bundle(own_places: None, tmp_path: Path) -> Path:
    return Bundles({"llava": write_vision_folder(tmp_path / "Tiny")}, tmp_path)["llava"]


def test_the_encoder_counts_before_it_loads_and_what_does_not_fit_is_refused(bundle: Path) -> None:
    manifest = Bundle.open(bundle).of_kind(VisionLm).manifest
    variant = manifest.variants[0]
    encoder = manifest.image_encoder(variant)
    folder = f"{PurePosixPath(variant.graph).parent}/"
    files = {name: each.bytes for name, each in manifest.files.items() if name.startswith(folder)}
    assert encoder.graph in files
    claimed = expected(bundle, EngineSettings(context_tokens=16)).host
    own = {name: size for name, size in files.items() if name.startswith(encoder.graph)}
    assert claimed > sum(files.values()) + sum(own.values())  # as much again for its batches
    without = sum(files.values()) - sum(own.values())

    async def scene() -> InsufficientMemory:
        room = ResidencySettings(budget=Room((claimed + without) // 2), preload_top=0)
        service = LocalService(
            ServiceSettings(
                bundles=(),
                folder=bundle.parent,
                residency=room,
                engine=EngineSettings(context_tokens=16),
            )
        )
        async with serving(service) as endpoint:
            await service.start()
            try:
                async with AsyncClient(endpoint) as client:
                    asked = client.chat("tiny", [said("?", PICTURES[0])], sampling=GREEDY)
                    with pytest.raises(InsufficientMemory) as refused:
                        await asked.collected()
                    return refused.value
            finally:
                await service.stop()

    told = asyncio.run(scene())
    assert "MiB" in told.message
