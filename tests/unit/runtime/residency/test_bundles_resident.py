"""Bundles come, change and go under the keeper."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from nsedge.api import ModelState
from nsedge.errors import BundleInvalid, UnknownModel
from tests.unit.shelf import Shelf


def play(scenario: Callable[[Path], Coroutine[None, None, None]]) -> Callable[[Path], None]:
    @functools.wraps(scenario)
    def test(tmp_path: Path) -> None:
        asyncio.run(scenario(tmp_path))

    return test


@play
async def test_a_damaged_bundle_is_not_reloaded(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 60}) as shelf:
        await shelf.load("a")
        (tmp_path / "a" / "manifest.json").write_text("{}")
        with pytest.raises(BundleInvalid):
            shelf.residency.reload(shelf.entry("a"))
        assert shelf.state("a") is ModelState.READY


@play
async def test_bundles_are_found_when_they_come_and_forgotten_when_they_go(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1}) as shelf:
        with pytest.raises(UnknownModel, match="served: a"):
            shelf.entry("b")
        path = shelf.add("b", 1)
        shelf.clock.advance(1.0)
        await shelf.load("b")
        (path / "manifest.json").unlink()
        shelf.residency.catalogue.look()
        assert shelf.state("b") is ModelState.READY
        await shelf.residency.unload(shelf.entry("b"))
        shelf.residency.catalogue.look()
        with pytest.raises(UnknownModel):
            shelf.entry("b")


@play
async def test_bundles_that_changed_under_a_model_are_known(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1, "b": 1}) as shelf:
        await shelf.load("a")
        manifest = tmp_path / "a" / "manifest.json"
        os.utime(manifest, ns=(1, 1))
        os.utime(tmp_path / "b" / "manifest.json", ns=(1, 1))
        shelf.residency.catalogue.look()
        assert [entry.name for entry in shelf.residency.catalogue.changed()] == ["a"]
        await shelf.residency.reload(shelf.entry("a")).done
        assert shelf.residency.catalogue.changed() == []
