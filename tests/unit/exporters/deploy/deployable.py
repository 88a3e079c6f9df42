"""Bundles of a tiny model that really runs, and a daemon on a thread that serves them."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer, models, pre_tokenizers

from exporters.deploy.store import examine
from nsedge.bundle.causal_lm import CausalLm, GenerationDefaults, GoldenPrompt, Variant
from nsedge.bundle.fields import FileEntry, Provenance
from nsedge.bundle.fields import Tokenizer as TokenizerEntry
from nsedge.bundle.files import sha256_of, write_manifest
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.ipc.access import Access
from nsedge.ipc.client import Client
from nsedge.ipc.server import Server
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.graph.executor import Source
from nsedge.runtime.graph.executors import open_executor
from nsedge.runtime.settings import EngineSettings
from tests.unit.tiny_decoder import IO, LAYOUT, POSITIONS, VOCABULARY, save, tiny_graph

PROMPTS = ((3, 1, 4, 1, 5), (2, 7, 1, 8), (1, 6, 1, 8, 0, 3))
TOKENS = 12
PATIENCE_S = 60.0
ENGINE = EngineSettings(slots=4, context_tokens=64, threads=1)
VARIANT = Variant(
    name="cpu-fp32", device="cpu", scheme="fp32", graph="cpu/model.onnx", io=IO, kv=LAYOUT
)


def write_deployable(
    path: Path,
    *,
    name: str = "tiny",
    created: str = "2026-01-02T03:04:05Z",
    template: str | None = None,
) -> Path:
    """Write the bundle `name` to the directory `path`; each moment of making is a version."""
    save(tiny_graph(), path / "cpu")
    _tokenizer().save(str(path / "tokenizer.json"))
    (path / "golden.json").write_bytes(msgspec.json.encode(_golden(path)))
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    manifest = CausalLm.made(
        name=name,
        context_length=64,
        vocab_size=VOCABULARY,
        eos_token_ids=(VOCABULARY - 1,),
        tokenizer=TokenizerEntry(file="tokenizer.json"),
        chat_template=None if template is None else "chat_template.jinja",
        generation_defaults=GenerationDefaults(temperature=0.7, repetition_penalty=1.3),
        variants=(VARIANT,),
        golden="golden.json",
        provenance=Provenance(
            source="made for a test",
            revision="r1",
            architecture="tiny",
            parameters=1,
            licence="Apache-2.0",
            created=created,
            exporter={},
        ),
        files={},
    )
    write_manifest(path, manifest)
    restate(path)
    return path


def restate(path: Path) -> None:
    """Let the manifest say what the files are now."""
    manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text())
    names = [
        str(file.relative_to(path))
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    ]
    manifest["files"] = {
        name: msgspec.to_builtins(
            FileEntry(sha256=sha256_of(path / name), bytes=(path / name).stat().st_size)
        )
        for name in names
    }
    (path / "manifest.json").write_text(json.dumps(manifest))


def spoil_golden(path: Path, *, first: int) -> None:
    """Make the golden prompts from the `first` on wrong, their hash right."""
    golden = json.loads((path / "golden.json").read_text())
    for prompt in golden[first:]:
        ids = prompt["continuation_ids"]
        prompt["continuation_ids"] = [(token + 1) % (VOCABULARY - 1) for token in ids]
    (path / "golden.json").write_text(json.dumps(golden))
    restate(path)


def _tokenizer() -> Tokenizer:
    """A word for each token: the text tells the tokens."""
    made = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def words(ids: tuple[int, ...]) -> str:
    """The text of tokens."""
    return " ".join(f"w{token}" for token in ids)


def _golden(path: Path) -> list[GoldenPrompt]:
    executor = open_executor(
        Source(
            graph=path / VARIANT.graph,
            variant=VARIANT,
            vocab_size=VOCABULARY,
            slots=1,
            capacity=POSITIONS // 2,
            threads=1,
        )
    )
    golden = []
    for prompt in PROMPTS:
        sequence = Sequence(
            prompt_ids=prompt, limits=Limits(max_tokens=TOKENS), submitted_s=0.0, row=0
        )
        chunk = Chunk(sequence=sequence, row=0, start=0, end=len(prompt))
        logits = executor.run(StepPlan(copies=(), prefill=(chunk,), decode=()))
        sequence.kv_length = len(prompt)
        while True:
            sequence.output_ids.append(int(logits.row(0).argmax()))
            if len(sequence.output_ids) == TOKENS:
                break
            logits = executor.run(StepPlan(copies=(), prefill=(), decode=(sequence,)))
            sequence.kv_length += 1
        golden.append(
            GoldenPrompt(
                text=words(prompt),
                prompt_ids=prompt,
                continuation_ids=tuple(sequence.output_ids),
                logprobs=(-1.0,) * TOKENS,
            )
        )
    return golden


@dataclass
class Home:
    """A daemon's home, and where the daemon is."""

    path: Path
    engine: EngineSettings = ENGINE

    @property
    def endpoint(self) -> str:
        return f"ipc://{self.path}/core.sock"

    @property
    def store(self) -> Path:
        return self.path / "bundles"

    def stored(self) -> list[str]:
        """What is in the store, leftovers included."""
        there = os.listdir(self.store) if self.store.is_dir() else []
        return sorted(name for name in there if name != ".deploy")

    @contextmanager
    def serving(self, endpoint: str = "", access: Access | None = None) -> Iterator[LocalService]:
        """A daemon over this home, on a thread of its own."""
        service = LocalService(
            ServiceSettings(
                bundles=(),
                folder=self.store,
                aliases_file=self.path / "state" / "aliases.json",
                engine=self.engine,
            )
        )
        began, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

        async def serve() -> None:
            endpoints = [endpoint or self.endpoint]
            server = Server(service, endpoints=endpoints, access=access or Access())
            await server.start()
            await service.start()
            began.set()
            await stop.wait()
            await server.stop()
            await service.stop()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            if not began.wait(PATIENCE_S):
                raise TimeoutError("the daemon did not start")
            yield service
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()


def served(bundle: Path) -> str:
    return examine(bundle).served


def folder(bundle: Path) -> str:
    return examine(bundle).folder


def alias_of(home: Home, alias: str) -> str | None:
    with Client(home.endpoint) as client:
        return next((one.name for one in client.models() if alias in one.aliases), None)
