"""Models for which there is no memory."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsedge.api import LoadOutcome, LoadWish
from nsedge.bundle.files import MANIFEST_FILE
from nsedge.errors import InsufficientMemory
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.cgroups import groups
from tests.faults.site import Site, answer, play, site

pytestmark = pytest.mark.integration

MIB = 2**20
FIGURES = r"other needs \d+ MiB of memory; \d+ MiB can be had"


@pytest.fixture
def where(starter_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A core with the starter in memory, and another model, as large, on disk."""
    with site(starter_bundle, models=getattr(request, "param", "")) as made:
        other = made.folder / "bundles" / "other"
        shutil.copytree(starter_bundle, other, copy_function=os.symlink)
        manifest = json.loads((starter_bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
        (other / MANIFEST_FILE).unlink()
        text = json.dumps({**manifest, "name": "other"})
        (other / MANIFEST_FILE).write_text(text, encoding="utf-8")
        made.core.start()
        yield made


async def refused(client: AsyncClient, where: Site, figures: str) -> None:
    """The other model is, and the one in memory goes on as it did."""
    said = await answer(client, where.model)
    await client.load(LoadWish(model=where.model, pin=True))
    with pytest.raises(InsufficientMemory, match=figures):
        await client.load(LoadWish(model="other"))
    assert await answer(client, where.model) == said
    assert where.core.running


@pytest.mark.parametrize("where", [f"memory_bytes = {230 * MIB}\n"], indirect=True)
def test_what_the_budget_does_not_hold_is_refused_with_figures(where: Site) -> None:
    async def scene(client: AsyncClient) -> None:
        await refused(client, where, f"{FIGURES}, of a budget of 230 MiB")

    play(where, scene)


LIMITS = {True: "memory.max", False: "memory.limit_in_bytes"}


@contextlib.contextmanager
def limited_group(pid: int, limit_bytes: int) -> Iterator[None]:
    """`pid` in a memory cgroup below this process's own; skips where none can be made."""
    for own in groups("memory"):
        parent = (own.mount if own.unified else own.mount / "memory") / own.path
        path = parent / f"nsedge-faults-{pid}"
        limit = path / LIMITS[own.unified]
        with contextlib.suppress(OSError):
            path.mkdir()
            break
    else:
        pytest.skip("no memory cgroup can be made here")
    try:
        if not limit.exists():
            pytest.skip("the memory controller is not given to groups below this one")
        limit.write_text(str(limit_bytes), encoding="ascii")
        (path / "cgroup.procs").write_text(str(pid), encoding="ascii")
        yield
        (parent / "cgroup.procs").write_text(str(pid), encoding="ascii")
    finally:
        path.rmdir()


def test_what_the_cgroup_does_not_hold_is_refused_with_figures(where: Site) -> None:
    # What it had before stays on its old group's account: the new one counts what comes.
    with limited_group(where.core.pid, 60 * MIB):

        async def scene(client: AsyncClient) -> None:
            await refused(client, where, FIGURES)

        play(where, scene)


def test_what_the_address_space_does_not_hold_is_refused_and_fits_later(where: Site) -> None:
    status = Path(f"/proc/{where.core.pid}/status").read_text(encoding="ascii")
    (size,) = (line for line in status.splitlines() if line.startswith("VmSize:"))
    taken = int(size.split()[1]) * 1024

    async def scene(client: AsyncClient) -> None:
        with where.core.limited(resource.RLIMIT_AS, taken + 60 * MIB):
            await refused(client, where, FIGURES)
        loaded = await client.load(LoadWish(model="other"))
        assert loaded.outcome is LoadOutcome.LOADED
        assert await answer(client, "other") == await answer(client, where.model)

    play(where, scene)
