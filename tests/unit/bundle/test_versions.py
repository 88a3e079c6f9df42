"""Versions of a bundle side by side: what they are called, and which of them is loaded."""

from __future__ import annotations

import asyncio
import functools
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from nsedge.api import ModelState
from nsedge.bundle.files import MANIFEST_FILE, find_bundles
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.versions import folder_name, version_of, versioned_name
from nsedge.cli import bundles
from nsedge.config.reader import Override, load
from nsedge.errors import BundleInvalid, UnknownModel
from nsedge.runtime.residency.aliases import Aliases
from nsedge.runtime.residency.settings import ResidencySettings
from tests.unit.bundles import edit_manifest, write_bundle
from tests.unit.shelf import Shelf


def play(scenario: Callable[[Path], Coroutine[None, None, None]]) -> Callable[[Path], None]:
    @functools.wraps(scenario)
    def test(tmp_path: Path) -> None:
        asyncio.run(scenario(tmp_path))

    return test


def write_version(folder: Path, **changes: object) -> Path:
    """A version of the bundle `tiny` below `folder`, told from others by `changes`."""
    made = write_bundle(folder / "made")
    edit_manifest(made, **changes)
    version = version_of((made / MANIFEST_FILE).read_bytes())
    return made.rename(folder / folder_name("tiny", version))


def called(path: Path) -> str:
    return versioned_name(*path.name.split("@"))


def test_a_version_is_called_by_its_name_and_its_digits(tmp_path: Path) -> None:
    path = write_version(tmp_path)
    bundle = Bundle.open(path)
    assert bundle.manifest.name == "tiny"
    assert bundle.name == called(path)
    assert Bundle.open(write_bundle(tmp_path / "any-name")).name == "tiny"


def test_a_version_that_was_altered_or_renamed_is_refused(tmp_path: Path) -> None:
    path = write_version(tmp_path)
    other = shutil.copytree(path, tmp_path / "tiny@0123456789ab")
    with pytest.raises(BundleInvalid, match="renamed; deploy the bundle anew"):
        Bundle.open(other)
    with pytest.raises(BundleInvalid, match="renamed"):
        Bundle.open(path.rename(tmp_path / path.name.upper()))
    edit_manifest(other, context_length=32)
    with pytest.raises(BundleInvalid, match="manifest was altered"):
        Bundle.open(other)


def test_what_is_half_made_is_no_bundle(tmp_path: Path) -> None:
    path = write_version(tmp_path)
    shutil.copytree(path, tmp_path / f".{path.name}.x1.part")
    assert find_bundles(tmp_path) == [path]


@play
async def test_versions_are_models_of_their_own(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {}) as shelf:
        paths = [write_version(tmp_path, context_length=length) for length in (32, 48)]
        for path in paths:
            shelf.sizes[path.name] = 1
            await shelf.load(called(path))
        catalogue = shelf.residency.catalogue
        catalogue.alias("tiny", called(paths[0]))
        assert shelf.entry("tiny").path == paths[0]
        assert not shelf.entry("tiny").superseded
        catalogue.alias("tiny", called(paths[1]))
        assert shelf.entry("tiny").path == paths[1]
        assert shelf.entry(called(paths[0])).superseded
        assert shelf.state(called(paths[0])) is ModelState.READY, "what runs on it goes on"


@play
async def test_a_version_that_has_just_come_is_found_at_once(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1}) as shelf:
        with pytest.raises(UnknownModel):
            shelf.entry("tiny")
        path = write_version(tmp_path)
        assert shelf.entry(called(path)).path == path


@play
async def test_a_keep_alive_is_known_by_the_alias(tmp_path: Path) -> None:
    path = write_version(tmp_path)
    settings = ResidencySettings(keep_alives={"nick": 10.0})
    shelf = Shelf(tmp_path, {}, settings=settings, aliases={"nick": called(path)})
    shelf.sizes[path.name] = 1
    async with shelf:
        assert (await shelf.load("nick")).keep_alive_s == 10.0


@play
async def test_no_guess_is_made_of_a_version_that_nothing_stands_for(tmp_path: Path) -> None:
    path = write_version(tmp_path)
    settings = ResidencySettings(preload_top=2, preload_idle_s=0.0)
    shelf = Shelf(tmp_path, {}, settings=settings)
    shelf.sizes[path.name] = 1
    async with shelf:
        for _ in range(5):
            shelf.residency.habits.began(called(path))
        shelf.clock.advance(1.0)
        shelf.residency.sweep()
        assert shelf.entry(called(path)).load is None
        shelf.residency.catalogue.alias("nick", called(path))
        shelf.residency.sweep()
        coming = shelf.entry("nick").load
        assert coming is not None
        await coming.done


def test_of_versions_the_start_loads_what_aliases_stand_for(tmp_path: Path) -> None:
    store = tmp_path / "bundles"
    store.mkdir()
    old, new = (write_version(store, context_length=length) for length in (32, 48))
    plain = write_bundle(store / "plain")
    assert chosen(tmp_path) == {plain}
    said = Aliases(tmp_path / "state" / "aliases.json", {})
    said.say("nick", called(new))
    assert said.save() is None
    assert chosen(tmp_path) == {plain, new}
    assert chosen(tmp_path, ("models.aliases", f"more={called(old)}")) == {plain, new, old}
    assert chosen(tmp_path, ("models.load", "nick")) == {new}
    assert chosen(tmp_path, ("models.load", called(old))) == {old}
    pinned = settings_of(tmp_path, ("models.pin", "nick"))
    assert bundles.named(pinned) == (new,)
    assert bundles.pinned(pinned) == {called(new)}


def settings_of(home: Path, *said: tuple[str, str]):
    overrides = [Override(flag="--x", key=key, text=text) for key, text in said]
    return load({"NSEDGE_HOME": str(home)}, overrides=overrides).settings


def chosen(home: Path, *said: tuple[str, str]) -> set[Path]:
    return set(bundles.chosen(settings_of(home, *said)))
