"""Requests that the real model cannot compute, beside others that it can: these do not notice."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer

from exporters.__main__ import main
from nsedge.api import Delta, Event, Failed, Finished, Generate, Request, Sampling
from nsedge.api.stream import EventStream
from nsedge.bundle.fields import FileEntry
from nsedge.bundle.files import MANIFEST_FILE, sha256_of, write_manifest
from nsedge.bundle.manifest import Bundle
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.errors import BundleInvalid
from nsedge.runtime.settings import EngineSettings
from tests.faults.poison import WORD, Harm, poisoned

pytestmark = pytest.mark.integration

MODEL = "smollm2-135m-instruct"
GREEDY = Sampling(temperature=0.0, max_tokens=32, ignore_eos=True)
DRAWN = Sampling(temperature=0.9, top_p=0.95, seed=7, max_tokens=32, ignore_eos=True)
STORY = "Once upon a time there was a lighthouse"
LIST = "Three colours, each with a reason:" + " and then" * 40
LAYERS, HIDDEN, KEYS, RANK = 30, 576, 192, 4

Ask = tuple[str, str, Sampling]
GOOD: list[Ask] = [(MODEL, STORY, GREEDY), (MODEL, LIST, DRAWN)]


@pytest.fixture(params=["native", "standard"])
def bundle(request: pytest.FixtureRequest) -> Path:
    """The starter on our own operators, and on ONNX Runtime's."""
    path: Path = request.getfixturevalue(
        "starter_bundle" if request.param == "native" else "standard_bundle"
    )
    return path


@asynccontextmanager
async def serving(*bundles: Path) -> AsyncIterator[LocalService]:
    engine = EngineSettings(slots=4, context_tokens=256)
    service = LocalService(ServiceSettings(bundles=bundles, engine=engine))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def play(*bundles: Path, scene: Callable[[LocalService], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        async with serving(*bundles) as service:
            await scene(service)

    asyncio.run(run())


async def ask(service: LocalService, wish: Ask, begun: asyncio.Event | None = None) -> list[Event]:
    model, text, sampling = wish
    request = Request(request_id="r", model=model, task=Generate(text=text, sampling=sampling))
    events = []
    async with EventStream(service, request) as stream:
        async for event in stream:
            events.append(event)
            if begun is not None and isinstance(event, Delta):
                begun.set()
    return events


def text_of(events: list[Event]) -> str:
    assert isinstance(events[-1], Finished), events[-1]
    return "".join(event.text for event in events if isinstance(event, Delta))


async def fails_alone(
    service: LocalService, bad: Ask, good: list[Ask], *, also: list[Ask] | None = None
) -> Failed:
    """How `bad` ends while `also` and `good` are answered, these with the text that they
    have alone."""
    wanted = [text_of(await ask(service, wish)) for wish in good]
    begun = asyncio.Event()
    running = [asyncio.create_task(ask(service, wish, begun)) for wish in [*good, *(also or [])]]
    await begun.wait()
    (failure,) = [event for event in await ask(service, bad) if isinstance(event, Failed)]
    said = [text_of(events) for events in await asyncio.gather(*running)]
    assert said[: len(good)] == wanted
    assert all(said)
    # All slots, that of the failed request among them.
    again = await asyncio.gather(*(ask(service, wish) for wish in good * 2))
    assert [text_of(events) for events in again] == wanted * 2
    stats = (await service.stats()).models[MODEL]
    assert (stats.running, stats.waiting, stats.kv_tokens_used) == (0, 0, 0)
    assert stats.finished.get("engine_failure", 0) == 0
    return failure


def copied(bundle: Path, folder: Path) -> Path:
    return Path(shutil.copytree(bundle, folder / bundle.name))


def test_a_token_that_the_model_does_not_have(bundle: Path, tmp_path: Path) -> None:
    made = copied(bundle, tmp_path)
    manifest = Bundle.open(made).manifest
    file = made / manifest.tokenizer.file
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens([AddedToken("<|surplus|>", special=True)])
    assert tokenizer.token_to_id("<|surplus|>") == manifest.vocab_size
    tokenizer.save(str(file))
    files = dict(manifest.files)
    files[manifest.tokenizer.file] = FileEntry(sha256=sha256_of(file), bytes=file.stat().st_size)
    write_manifest(made, msgspec.structs.replace(manifest, files=files))

    async def scene(service: LocalService) -> None:
        bad = (MODEL, "Say <|surplus|> to me", GREEDY)
        failure = await fails_alone(service, bad, GOOD)
        assert (failure.code, failure.retryable) == ("invalid_parameter", False)
        assert "token 49152 ('<|surplus|>')" in failure.message
        assert failure.param == "prompt"

    play(made, scene=scene)


def test_a_default_penalty_of_zero_never_comes_to_serve(bundle: Path, tmp_path: Path) -> None:
    file = copied(bundle, tmp_path) / MANIFEST_FILE
    manifest = json.loads(file.read_text())
    manifest["generation_defaults"]["repetition_penalty"] = 0
    file.write_text(json.dumps(manifest))
    with pytest.raises(BundleInvalid, match="repetition_penalty must be above"):
        Bundle.open(file.parent)


@pytest.mark.parametrize(
    ("harm", "message"), [("raise", "its step raises"), ("nan", "are no numbers")]
)
def test_a_token_that_spoils_the_step(
    bundle: Path, tmp_path: Path, harm: Harm, message: str
) -> None:
    async def scene(service: LocalService) -> None:
        for text in (WORD, "Tell me of the" + WORD + " and its" * 50):
            failure = await fails_alone(service, (MODEL, text, GREEDY), GOOD)
            assert (failure.code, failure.retryable) == ("computation_failure", False)
            assert message in failure.message

    play(poisoned(bundle, tmp_path, harm), scene=scene)


def lora(folder: Path, spread: float) -> Path:
    """A folder as PEFT writes it, with numbers of that size."""
    random = np.random.default_rng(7)
    weights = {}
    for layer in range(LAYERS):
        for module, width in (("q_proj", HIDDEN), ("v_proj", KEYS)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            for side, shape in (("A", (RANK, HIDDEN)), ("B", (width, RANK))):
                matrix = random.normal(0.0, spread, shape).astype(np.float32)
                weights[f"{name}.lora_{side}.weight"] = matrix
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": MODEL,
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def packaged(bundle: Path, folder: Path, name: str, spread: float) -> Path:
    out = folder / f"{MODEL}+{name}"
    source = lora(folder / "peft" / name, spread)
    assert main(["adapter", str(bundle), str(source), "--name", name, "--out", str(out)]) == 0
    return out


def test_an_adapter_that_overflows(bundle: Path, tmp_path: Path) -> None:
    base = copied(bundle, tmp_path / "base")
    first = packaged(base, tmp_path, "small", 0.15)
    packaged(base, tmp_path, "large", 1e18)

    async def scene(service: LocalService) -> None:
        # What an adapter adds is rounded by the shape of the run: its text may vary with company.
        small = (f"{MODEL}:small", STORY, GREEDY)
        failure = await fails_alone(service, (f"{MODEL}:large", LIST, GREEDY), GOOD, also=[small])
        assert failure.code == "computation_failure"
        assert "are no numbers" in failure.message

    async def run() -> None:
        engine = EngineSettings(slots=4, context_tokens=256)
        settings = ServiceSettings(bundles=(base, first), folder=tmp_path, engine=engine)
        service = LocalService(settings)
        await service.start()
        try:
            await scene(service)
        finally:
            await service.stop()

    asyncio.run(run())
