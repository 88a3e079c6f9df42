"""whisper.cpp: its server from the sources in pywhispercpp, its weights from ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from tokenizers import Tokenizer

from bench.daemon import READY_S, free_port
from bench.peers.building import Builder, BuildFailed, command
from bench.peers.llama import CMAKE, NINJA, keep_tile_config
from bench.peers.process import end
from exporters.cache import folder_digest
from exporters.model.source import Source
from exporters.model.speech import read_speech_shape
from exporters.speech.audio import mel_filters
from nsedge.bundle.files import sha256_of

VERSION = "1.5.1"
SDIST = f"pywhispercpp-{VERSION}.tar.gz"
SDIST_SHA256 = "5df897e5dd9d9f16804fc937bd85b9f5880a0b29a55f8843585e0e03d76195e5"
VERSIONS = {"whisper.cpp": "1.8.5"}
TARGETS = ("whisper-server", "whisper-quantize")
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_CCACHE=OFF",
)
CONVERTER = "models/convert-h5-to-ggml.py"
KIND = "q8_0"


@dataclass(frozen=True, kw_only=True)
class WhisperCpp:
    """A finished build."""

    folder: Path

    def program(self, name: str) -> Path:
        """One of `TARGETS`."""
        return self.folder / "bin" / name


def build(builder: Builder) -> WhisperCpp:
    """Fetch the sources and compile them for this machine.

    Raises:
        BuildFailed: they cannot be had, are not those we know, or do not compile.
    """
    sources = builder.get("whisper-cpp-sources", {"sha256": SDIST_SHA256}, _download)
    cmake, ninja = builder.tool("cmake", CMAKE), builder.tool("ninja", NINJA)

    def make(folder: Path) -> None:
        tree = folder / "sources"
        with tarfile.open(sources / SDIST) as archive:
            archive.extractall(tree, filter="data")
        vendored = tree / SDIST.removesuffix(".tar.gz") / "whisper.cpp"
        building = folder / "build"
        keep_tile_config(vendored)
        generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        command(
            [cmake, "-S", vendored, "-B", building, *generator, *FLAGS[:4], "-DGGML_CCACHE=OFF"]
        )
        command([cmake, "--build", building, "--target", *TARGETS])
        shutil.copytree(building / "bin", folder / "bin", symlinks=True)
        shutil.copy2(vendored / CONVERTER, folder / "convert.py")
        shutil.rmtree(tree)
        shutil.rmtree(building)

    inputs = {"sha256": SDIST_SHA256, "flags": FLAGS + TARGETS, "machine": builder.machine}
    return WhisperCpp(folder=builder.get("whisper-cpp", inputs, make))


def convert(builder: Builder, built: WhisperCpp, source: Source) -> Path:
    """A model folder as whisper.cpp reads it, in blocks of 8 bits.

    Raises:
        BuildFailed: its converter failed.
    """

    def make(folder: Path) -> None:
        model = folder / "model"
        shutil.copytree(source.folder, model)
        vocabulary = Tokenizer.from_file(str(source.tokenizer_file)).get_vocab(
            with_added_tokens=False
        )
        (model / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (model / "added_tokens.json").write_text("{}", encoding="utf-8")
        bins = read_speech_shape(source).bins
        filters: dict[str, Any] = {f"mel_{bins}": mel_filters(source, bins)}
        assets = folder / "whisper" / "assets"
        assets.mkdir(parents=True)
        np.savez(assets / "mel_filters.npz", **filters)
        command([sys.executable, built.folder / "convert.py", model, folder, folder])
        halves = folder / "ggml-model.bin"
        command([built.program("whisper-quantize"), halves, folder / f"{KIND}.bin", KIND])
        halves.unlink()
        shutil.rmtree(model)

    inputs = {"model": folder_digest(source.folder), "sha256": SDIST_SHA256, "kind": KIND}
    return builder.get("whisper-cpp-weights", inputs, make) / f"{KIND}.bin"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server."""

    url: str
    session: aiohttp.ClientSession

    async def transcribe(self, file: str, *, beam: int) -> str:
        """The transcript of a file."""
        form = aiohttp.FormData()
        form.add_field("file", await asyncio.to_thread(Path(file).read_bytes), filename="a.wav")
        form.add_field("response_format", "json")
        form.add_field("beam_size", str(beam))
        async with self.session.post(f"{self.url}/inference", data=form) as answer:
            answer.raise_for_status()
            told = await answer.json()
        return str(told["text"]).replace("\n", " ")


@contextlib.asynccontextmanager
async def server(
    built: WhisperCpp, weights: Path, *, threads: int, beam: int, log: Path
) -> AsyncIterator[Server]:
    """Start it, and wait until it answers."""
    port = free_port()
    words = [
        *("--model", str(weights), "--threads", str(threads), "--language", "en"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--best-of", "1", "--beam-size", str(beam)),
    ]
    with log.open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            built.program(TARGETS[0]),
            *words,
            stdout=said,
            stderr=said,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session:
            await _answers(session, url)
            yield Server(url=url, session=session)
    finally:
        await end(process)


async def _answers(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(READY_S):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url):
                    return
            await asyncio.sleep(0.1)


def _download(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    only = ["--no-binary", "pywhispercpp", "--dest", folder]
    command([*pip, *only, f"pywhispercpp=={VERSION}"])
    sdist = folder / SDIST
    found = sha256_of(sdist) if sdist.is_file() else "nothing"
    if found != SDIST_SHA256:
        raise BuildFailed(f"{SDIST}: expected SHA-256 {SDIST_SHA256}, found {found}")
