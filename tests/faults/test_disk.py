"""Disks that are full, and files that change under the daemon."""

from __future__ import annotations

import base64
import io
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from nsedge.errors import BundleInvalid
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.residency.habits import SAVE_EVERY_S
from nsedge.runtime.residency.usage import History
from tests.faults.clock import Clock
from tests.faults.kinds import KINDS, picture, recording
from tests.faults.site import Site, answer, gather, play, said, site, until, until_idle
from tests.unit.web.forms import FORM, form
from tests.web_server import ask

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


async def joined(where: Site, speech: Path) -> Any:
    """What is told of a picture and a recording that stand in a conversation."""
    seen = base64.b64encode(picture(3).data).decode()
    heard = base64.b64encode(recording(speech).data).decode()
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{seen}"}},
        {"type": "input_audio", "input_audio": {"data": heard, "format": "wav"}},
    ]
    body = {"model": where.model, "max_tokens": 4, "temperature": 0}
    messages = [{"role": "user", "content": content}]
    told = await ask(where.port, "POST", "/v1/chat/completions", body | {"messages": messages})
    assert told.status == 200, told.body
    answered: Any = told.json
    return answered["media"], answered["choices"]


async def uploaded(where: Site, speech: Path) -> Any:
    """The transcript of a recording with a minute of silence behind it, which comes in a form."""
    samples, rate = soundfile.read(speech / "golden" / "0930.wav", dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, np.append(samples, np.zeros(60 * rate, np.int16)), rate, format="WAV")
    fields = ("file", file.getvalue(), "audio/wav"), ("model", speech.name.encode())
    told = await ask(where.port, "POST", "/v1/audio/transcriptions", raw=form(*fields), **FORM)
    assert told.status == 200, told.body
    return told.json


def test_no_request_needs_room_on_disk(
    starter_bundle: Path, speech_bundle: Path, request: pytest.FixtureRequest
) -> None:
    """Core and shim may not write a byte to any file: uploads, and the texts that are kept of them,
    are in memory."""
    others = {name: KINDS[name].bundle(request) for name in KINDS if name != "text"}
    with site(starter_bundle, *others.values()) as where:
        where.start()

        async def scene(client: AsyncClient) -> None:
            async def all_of_it() -> list[Any]:
                told = [said(await gather(KINDS[n].ask(client, others[n]))) for n in others]
                return [*told, await uploaded(where, speech_bundle)]

            wanted = await all_of_it()
            with (
                where.core.limited(resource.RLIMIT_FSIZE, 0),
                where.shim.limited(resource.RLIMIT_FSIZE, 0),
            ):
                assert await all_of_it() == wanted
                media, first = await joined(where, speech_bundle)
                assert [one["cached"] for one in media] == [False, False]
                again, second = await joined(where, speech_bundle)
                assert [one["cached"] for one in again] == [True, True]
                assert [one["text"] for one in again] == [one["text"] for one in media]
                assert first == second
            assert where.core.running
            assert where.shim.running

        play(where, scene)
