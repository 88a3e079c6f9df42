"""Opening a bundle: what is compared before, what beside, and what stays of one that is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nsedge.api import LoadOutcome, LoadResult, LoadWish, ModelState
from nsedge.bundle.manifest import Bundle
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.errors import BundleInvalid, Draining
from nsedge.runtime.hosting import text as residency
from nsedge.runtime.hosting.hosted import Host, HostedModel, Opening
from nsedge.runtime.hosting.trust import Hashes
from nsedge.runtime.settings import EngineSettings
from tests.ipc import PATIENCE_S
from tests.unit.exporters.deploy.deployable import restate, spoil_golden, write_deployable

ENGINE = EngineSettings(slots=4, context_tokens=64, threads=1)
WEIGHTS = "cpu/model.onnx.data"
Told = list[tuple[ModelState, float]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_deployable(tmp_path / "bundles" / "tiny")


def load(path: Path, told: Told | None = None) -> residency.TextModel:
    heard = [] if told is None else told
    return residency.load(
        path,
        Host(settings=ENGINE, deliver=lambda batch: None, clock=lambda: 0.0),
        Opening(told=lambda state, share: heard.append((state, share))),
    )


def refusal(path: Path, told: Told | None = None) -> str:
    """What a load is refused with."""
    with pytest.raises(BundleInvalid) as caught:
        load(path, told)
    return caught.value.message


def alter(file: Path) -> None:
    """Change the last byte; the size stays."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def is_open(path: Path) -> bool:
    """Whether a session, or a thread that makes one, is there."""
    mapped = str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")
    return mapped or any(one.name.startswith("opening") for one in threading.enumerate())


def test_a_load_tells_all_that_it_reads_and_then_that_it_warms_up(path: Path) -> None:
    told: Told = []
    model = load(path, told)
    model.start()
    model.close()
    shares = [share for state, share in told if state is ModelState.LOADING]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert told[-1] == (ModelState.WARMING, 1.0)
    assert not is_open(path)


def test_altered_weights_are_refused_before_a_step_is_run(path: Path) -> None:
    alter(path / WEIGHTS)
    told: Told = []
    said = refusal(path, told)
    assert said == f"{path / WEIGHTS} was altered: its SHA-256 does not match"
    assert {state for state, _ in told} == {ModelState.LOADING}
    assert not is_open(path)


@pytest.mark.parametrize("name", ["cpu/model.onnx", "tokenizer.json", "golden.json"])
def test_what_is_parsed_is_compared_before(path: Path, name: str) -> None:
    alter(path / name)
    bundle = Bundle.open(path)
    with pytest.raises(BundleInvalid, match=f"{name} was altered"):
        Hashes(bundle, bundle.manifest.variants[0].graph).check_parsed()
    assert refusal(path) == f"{path / name} was altered: its SHA-256 does not match"


def test_the_graphs_folder_holds_nothing_else_that_is_parsed(path: Path) -> None:
    alter(path / WEIGHTS)
    bundle = Bundle.open(path)
    hashes = Hashes(bundle, bundle.manifest.variants[0].graph)
    hashes.check_parsed()
    with pytest.raises(BundleInvalid, match=f"{WEIGHTS} was altered"):
        hashes.check_weights()


def cut_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").write_text("{")
    restate(path)


def cut_graph(path: Path) -> None:
    (path / "cpu/model.onnx").write_bytes(b"not a graph")
    restate(path)


@pytest.mark.parametrize("spoil", [cut_tokenizer, cut_graph])
def test_an_altered_file_is_told_before_any_other_fault(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    assert "was altered" not in refusal(path)
    alter(path / WEIGHTS)
    assert f"{WEIGHTS} was altered" in refusal(path)
    assert not is_open(path)


async def serving(path: Path) -> LocalService:
    service = LocalService(ServiceSettings(bundles=(), folder=path.parent, engine=ENGINE))
    await service.start()
    return service


def test_a_daemon_keeps_nothing_of_a_model_that_it_refused(path: Path) -> None:
    whole = (path / WEIGHTS).read_bytes()

    async def scene() -> None:
        service = await serving(path)
        alter(path / WEIGHTS)
        with pytest.raises(BundleInvalid, match=f"{WEIGHTS} was altered"):
            await service.load(LoadWish(model="tiny"))
        (model,) = await service.models()
        assert model.state is ModelState.FAILED
        assert not is_open(path)
        (path / WEIGHTS).write_bytes(whole)
        loaded = await service.load(LoadWish(model="tiny"))
        assert loaded.model.state is ModelState.READY
        await service.stop()

    asyncio.run(scene())


def test_nor_of_one_that_answers_its_golden_prompts_otherwise(path: Path) -> None:
    spoil_golden(path, first=0)

    async def scene() -> None:
        service = await serving(path)
        with pytest.raises(BundleInvalid, match="does not answer its golden prompts"):
            await service.load(LoadWish(model="tiny"))
        assert not is_open(path)
        await service.stop()

    asyncio.run(scene())


def test_models_that_come_and_go_leave_no_thread(path: Path) -> None:
    async def scene() -> None:
        service = await serving(path)
        counts = []
        for _ in range(3):
            await service.load(LoadWish(model="tiny"))
            await service.unload("tiny")
            assert not is_open(path)
            counts.append(threading.active_count())
        assert len(set(counts)) == 1
        await service.stop()

    asyncio.run(scene())


class HeldBack(LocalService):
    """Lets a load go on with hashing the weights only once `gate` is set."""

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings)
        self.reached, self.gate = threading.Event(), threading.Event()

    def _open(self, path: Path, opening: Opening) -> HostedModel:
        def held(state: ModelState, share: float) -> None:
            opening.told(state, share)
            if threading.current_thread().name.startswith("opening"):
                self.reached.set()
                assert self.gate.wait(PATIENCE_S)

        return super()._open(path, replace(opening, told=held))


async def held_back(path: Path) -> tuple[HeldBack, asyncio.Task[LoadResult]]:
    service = HeldBack(ServiceSettings(bundles=(), folder=path.parent, engine=ENGINE))
    await service.start()
    loading = asyncio.create_task(service.load(LoadWish(model="tiny")))
    assert await asyncio.to_thread(service.reached.wait, PATIENCE_S)
    assert is_open(path)
    return service, loading


def test_a_model_that_is_unloaded_while_it_loads_leaves_nothing(path: Path) -> None:
    async def scene() -> None:
        service, loading = await held_back(path)
        unloading = asyncio.create_task(service.unload("tiny"))
        service.gate.set()
        assert (await loading).outcome is LoadOutcome.LOADED
        assert [model.name for model in await unloading] == ["tiny"]
        assert not is_open(path)
        await service.stop()

    asyncio.run(scene())


def test_a_daemon_that_stops_in_the_middle_of_a_load_leaves_nothing(path: Path) -> None:
    async def scene() -> None:
        service, loading = await held_back(path)
        stopping = asyncio.create_task(service.stop())
        with pytest.raises(Draining):
            await loading
        assert is_open(path)
        service.gate.set()
        await stopping
        assert not is_open(path)

    asyncio.run(scene())
