"""A LoRA beside its base: against PEFT in PyTorch, and through the service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from exporters.__main__ import main
from exporters.adapter.lora import read_lora
from exporters.errors import Refused
from exporters.model.lora_config import CONFIG_FILE
from nsedge import native
from nsedge.api import Delta, Failed, Finished, Generate, Request, Sampling, is_terminal
from nsedge.bundle.adapter import Adapter
from nsedge.bundle.manifest import Bundle
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence, State
from nsedge.runtime.graph.adapters import AdapterStack, LoadedAdapter
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor
from tests.export.tiny import write_model_folder

pytestmark = pytest.mark.export

TOLERANCE = 1e-4
QUANTISED_TOLERANCE = 0.1
"""What rounding to 8 bits may make of a difference in the last place."""
PROMPTS = ((5, 9, 77, 200, 31), (4, 4, 250), (12, 13, 14, 15, 16, 17, 18), (300, 2, 1))
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SETTINGS: dict[str, dict[str, Any]] = {
    "all": {"r": 4, "lora_alpha": 8, "target_modules": list(ALL)},
    "few": {
        "r": 3,
        "lora_alpha": 5,
        "use_rslora": True,
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "rank_pattern": {"layers.1.self_attn.q_proj": 6},
        "alpha_pattern": {"v_proj": 11},
    },
}


class Made:
    """A model folder, its bundle, and adapters of it as PEFT has them and as packages."""

    def __init__(self, folder: Path) -> None:
        self.model = write_model_folder(folder / "model")
        self.bundle, self.quantised = folder / "home" / "tiny", folder / "home8" / "tiny"
        for out, scheme in ((self.bundle, "fp32"), (self.quantised, "int8-b32")):
            assert main(["model", str(self.model), *_to(out), "--scheme", scheme]) == 0
        self.folder = folder
        self.trained_all = {name: self.trained(name, **SETTINGS[name]) for name in SETTINGS}

    def trained(self, name: str, **settings: Any) -> Path:
        """An adapter folder of PEFT's, with random matrices."""
        folder = self.folder / f"peft-{name}"
        base = transformers.AutoModelForCausalLM.from_pretrained(self.model)
        torch.manual_seed(len(name))
        model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, 0.0, 0.1)
        model.save_pretrained(folder)
        return folder

    def packaged(self, name: str, bundle: Path) -> Adapter:
        folder, out = self.trained_all[name], bundle.parent / f"tiny+{name}"
        command = ["adapter", str(bundle), str(folder), "--name", name, "--out", str(out)]
        assert main(command) == 0
        return Adapter.open(out)


def _to(out: Path) -> list[str]:
    return ["--out", str(out), "--name", "tiny"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("adapters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSEDGE_CACHE", str(folder / "cache"))
        return Made(folder)


@pytest.fixture(scope="module")
def adapters(made: Made) -> dict[str, Adapter]:
    return {name: made.packaged(name, made.bundle) for name in SETTINGS}


def variants() -> list[str]:
    reason = native.why_not()
    mark = pytest.mark.skipif(reason is not None, reason=str(reason))
    own = pytest.param("cpu-int8-b32-native", marks=mark)
    return ["cpu-fp32", "cpu-int8-b32", own]  # type: ignore[list-item]


@pytest.fixture
def runner(made: Made) -> Callable[[str], Executor]:
    def open_one(name: str) -> Executor:
        bundle = Bundle.open(made.bundle if name == "cpu-fp32" else made.quantised)
        adapters = {key: made.packaged(key, bundle.path) for key in SETTINGS}
        variant = next(v for v in bundle.manifest.variants if v.name == name)
        source = Source(
            graph=bundle.file(variant.graph),
            variant=variant,
            vocab_size=bundle.manifest.vocab_size,
            slots=4,
            capacity=32,
            threads=1,
        )
        executor = open_executor(source)
        first = next(iter(adapters.values()))
        sites = first.manifest.sites
        stack = AdapterStack(
            sites,
            [LoadedAdapter.of(key, sites, one.matrices()) for key, one in adapters.items()],
        )
        executor.open_adapters(first.file(first.form_for(bundle, name).graph), stack)
        return executor

    return open_one


def logits_of(executor: Executor, keys: list[str | None], only: int | None = None) -> Any:
    """Logits after each prompt, read through the adapter `keys` say, and after one token more."""
    rows = range(len(PROMPTS)) if only is None else [only]
    chosen = []
    for row, index in enumerate(rows):
        one = Sequence(
            prompt_ids=PROMPTS[index],
            limits=Limits(max_tokens=9),
            submitted_s=0.0,
            adapter=keys[index],
        )
        one.move(State.PREFILL)
        one.row = row
        chosen.append(one)
    chunks = tuple(Chunk(one, one.held_row, 0, len(one.prompt_ids)) for one in chosen)
    first = executor.run(StepPlan((), chunks, ())).array.copy()
    for one in chosen:
        one.kv_length = len(one.prompt_ids)
        one.output_ids.append(7)
        one.move(State.RUNNING)
    return np.stack([first, executor.run(StepPlan((), (), tuple(chosen))).array.copy()], axis=1)


def torch_logits(made: Made, name: str | None, prompt: tuple[int, ...]) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(made.model)
    if name is not None:
        model = peft.PeftModel.from_pretrained(model, made.folder / f"peft-{name}")
    with torch.no_grad():
        return model.eval()(torch.tensor([[*prompt, 7]])).logits[0, -2:].numpy()


def test_a_mixed_batch_is_what_peft_computes(made: Made, runner: Callable[[str], Executor]) -> None:
    keys = ["all", None, "few", "all"]
    found = logits_of(runner("cpu-fp32"), keys)
    for row, (key, prompt) in enumerate(zip(keys, PROMPTS, strict=True)):
        np.testing.assert_allclose(found[row], torch_logits(made, key, prompt), atol=TOLERANCE)


@pytest.mark.parametrize("variant", variants())
def test_each_row_is_what_it_is_alone(variant: str, runner: Callable[[str], Executor]) -> None:
    keys = ["all", None, "few", "all"]
    executor = runner(variant)
    together = logits_of(executor, keys)
    plain = logits_of(executor, [None] * 4)
    for row, key in enumerate(keys):
        alone = logits_of(executor, keys, only=row)[0]
        tolerance = TOLERANCE if variant == "cpu-fp32" else QUANTISED_TOLERANCE
        np.testing.assert_allclose(together[row], alone, atol=tolerance)
        if key is None and "native" in variant:
            np.testing.assert_array_equal(together[row], plain[row])
        assert key is None or (np.abs(plain[row] - together[row]).max() > tolerance)


def test_a_second_time_it_is_up_to_date(
    made: Made, adapters: dict[str, Adapter], capsys: pytest.CaptureFixture[str]
) -> None:
    written = (adapters["all"].path / "manifest.json").stat().st_mtime_ns
    command = ["adapter", str(made.bundle), str(made.folder / "peft-all"), "--name", "all"]
    assert main([*command, "--out", str(adapters["all"].path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["made"], told["model"], told["ranks"]) == (False, "tiny:all", [4])
    assert (adapters["all"].path / "manifest.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"use_dora": True, "target_modules": ["q_proj"]}, "use_dora"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_modules": ["embed_tokens"]}, "lora_embedding|embed_tokens"),
        ({"target_modules": ["q_proj"], "bias": "all"}, "biases"),
        ({"target_modules": ["q_proj"], "init_lora_weights": "olora"}, "began as olora"),
        ({"target_modules": ["q_proj"], "layer_replication": [[0, 2], [1, 2]]}, "repeats layers"),
    ],
)
def test_what_has_to_be_merged_is_refused_with_the_reason(
    made: Made,
    adapters: dict[str, Adapter],
    settings: dict[str, Any],
    why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = made.trained("refused", r=2, **settings)
    out = made.folder / "refused"
    command = ["adapter", str(made.bundle), str(folder), "--name", "x", "--out", str(out)]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert any(word in error for word in why.split("|")), error
    assert not out.exists()
    merged = made.folder / "merged"
    command = ["merge", "--base", str(made.model), "--adapter", str(folder), "--out", str(merged)]
    assert main(command) == 0


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("alora_invocation_tokens", [1], "it counts only after certain tokens"),
        ("use_qalora", True, "it is bound to a quantised base"),
        ("arrow_config", {"top_k": 1}, "it is a router"),
        ("lora_alpha", "much", "lora_alpha is 'much', not a number"),
        ("r", 0, "r is 0, not a whole number"),
    ],
)
def test_what_nothing_can_use_is_refused_by_name_and_points_nowhere(
    made: Made, field: str, value: object, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.trained("odd", r=2, target_modules=["q_proj"])
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(config | {field: value}))
    out = made.folder / "refused"
    command = ["adapter", str(made.bundle), str(folder), "--name", "x", "--out", str(out)]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert field in error
    assert why in error
    assert "merge" not in error
    assert not out.exists()


def test_an_adapter_of_another_shape_is_refused(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = transformers.LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    model = peft.get_peft_model(
        transformers.LlamaForCausalLM(config), peft.LoraConfig(r=2, target_modules=["q_proj"])
    )
    model.save_pretrained(tmp_path / "other")
    command = ["adapter", str(made.bundle), str(tmp_path / "other"), "--name", "x"]
    assert main([*command, "--out", str(tmp_path / "x")]) == 1
    assert "its base has 64 inputs" in capsys.readouterr().err


def test_other_kinds_of_adapter_are_refused(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(Refused, match="peft_type is 'IA3'; of adapters only LORA"):
        read_lora(tmp_path)


def test_the_service_chooses_by_name(made: Made, adapters: dict[str, Adapter]) -> None:
    asyncio.run(_ask_all(made.bundle.parent))


async def _ask_all(folder: Path) -> None:
    service = LocalService(ServiceSettings(bundles=(), folder=folder, aliases={"chat": "tiny"}))
    await service.start()
    try:
        names = ["tiny", "tiny:all", "tiny:few", "chat:all"]
        alone = [await _answer(service, name) for name in names]
        assert alone[1] == alone[3]
        assert len(set(alone)) == 3
        assert await asyncio.gather(*(_answer(service, name) for name in names)) == alone
        infos = {one.name: one for one in await service.models()}
        assert infos["tiny:all"].base == "tiny"
        assert infos["tiny:all"].aliases == ("chat:all",)
        assert infos["tiny:all"].memory is not None
        assert await _answer(service, "tiny:none") == "unknown_model"
        await service.unload("tiny")
        assert {one.state.value for one in await service.models()} == {"absent"}
        assert await _answer(service, "tiny:few") == alone[2]
    finally:
        await service.stop()


async def _answer(service: LocalService, model: str) -> str:
    ended: asyncio.Future[Finished | Failed] = asyncio.get_running_loop().create_future()
    said: list[int] = []

    def sink(event: Any) -> None:
        if isinstance(event, Delta):
            said.extend(event.token_ids)
        if is_terminal(event):
            ended.set_result(event)

    request = Request(
        request_id=f"{model} {id(said)}",
        model=model,
        task=Generate(
            text="Once upon a time",
            sampling=Sampling(temperature=0.0, max_tokens=12, ignore_eos=True),
        ),
    )
    service.submit(request, sink)
    end = await ended
    return end.code if isinstance(end, Failed) else " ".join(map(str, said))
