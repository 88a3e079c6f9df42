"""Disks that are full, and files that change under the daemon."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nsedge.errors import BundleInvalid
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.residency.habits import SAVE_EVERY_S
from nsedge.runtime.residency.usage import History
from tests.faults.clock import Clock
from tests.faults.site import answer, play, site, until, until_idle

pytestmark = pytest.mark.integration

FILES = ("cpu-x4/model.onnx.data", "cpu-x4/native.onnx", "cpu-x4/model.onnx", "tokenizer.json")


@pytest.fixture
def bundle(starter_bundle: Path, tmp_path: Path) -> Path:
    """The starter in files of its own."""
    return Path(shutil.copytree(starter_bundle, tmp_path / starter_bundle.name))


def test_a_full_disk_costs_the_statistics_and_nothing_else(starter_bundle: Path) -> None:
    """The file that is written first leads to /dev/full, where every write finds no space."""
    with Clock() as clock, site(starter_bundle, words=clock.words) as where:
        where.core.start()
        usage = where.folder / "state" / "usage.json"
        usage.parent.mkdir(exist_ok=True)
        usage.with_suffix(".part").symlink_to("/dev/full")

        async def scene(client: AsyncClient) -> None:
            said = await answer(client, where.model)
            clock.jump(SAVE_EVERY_S)
            await until(lambda: "usage statistics are not being kept" in where.core.log)
            assert "No space left on device" in where.core.log
            assert await answer(client, where.model) == said
            clock.jump(SAVE_EVERY_S)
            await until(lambda: "usage statistics are kept again" in where.core.log)
            assert (await client.usage()).models[where.model].usage_count == 2
            await until_idle(client, where.model)

        play(where, scene)
        kept = msgspec.json.decode(usage.read_bytes(), type=History)
        assert kept.models[where.model].count == 2


def replaced(path: Path) -> None:
    damaged = path.with_suffix(".new")
    damaged.write_bytes(b"\0" * path.stat().st_size)
    damaged.replace(path)


def written_over(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)


def cut_short(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [replaced, written_over, cut_short])
def test_a_model_in_memory_goes_on_whatever_becomes_of_its_files(
    bundle: Path, damage: Callable[[Path], None]
) -> None:
    with site(bundle) as where:
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            said = await answer(client, where.model)
            for name in FILES:
                damage(bundle / name)
            assert await answer(client, where.model) == said
            with pytest.raises(BundleInvalid):
                await client.reload(where.model)
            assert await answer(client, where.model) == said

        play(where, scene)
        where.core.kill()
        where.core.spawn()
        assert where.core.wait() != 0
        assert str(bundle) in where.core.log.splitlines()[-1]
