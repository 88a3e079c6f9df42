"""What `nsedge doctor` says of the shim."""

from __future__ import annotations

import asyncio

import pytest

from nsedge.cli import doctor
from nsedge.config.reader import Override, load
from tests.fakes import FakeService
from tests.web_server import running


@pytest.mark.parametrize("apart", [True, False])
def test_the_shim_is_looked_for_where_its_operations_are(apart: bool) -> None:
    async def scene() -> None:
        async with running(FakeService()) as shim:
            said = {"web.port": "1", "web.listeners": f"operations=127.0.0.1:{shim.port}"}
            said = said if apart else {"web.port": str(shim.port)}
            overrides = [Override(flag="--set", key=key, text=said[key]) for key in said]
            settings = load({"HOME": "/nowhere"}, overrides=overrides).settings
            check = await asyncio.to_thread(doctor.shim, settings)
            assert (check.state, check.detail) == (doctor.State.OK, f"listening at {shim.url}")

    asyncio.run(scene())


def test_a_shim_that_is_not_there_is_a_note_with_a_remedy() -> None:
    said = Override(flag="--set", key="web.port", text="1")
    check = doctor.shim(load({"HOME": "/nowhere"}, overrides=[said]).settings)
    assert check.state is doctor.State.NOTE
    assert check.detail.startswith("nothing of ours at http://127.0.0.1:1 (")
    assert check.remedy
