"""Ollama's streams and answers to the letter."""

from __future__ import annotations

import pytest

from nsedge.api import (
    FinishReason,
    ModelCard,
    ModelInfo,
    ModelMemory,
    ModelState,
    ModelUsage,
    UsageReport,
)
from nsedge.api.models import FOREVER_S
from nsedge.web.doors.ollama.answers import (
    GENERATED,
    SAID,
    Carrier,
    Head,
    OllamaStream,
    nanoseconds,
    rfc3339,
)
from nsedge.web.doors.ollama.models import NEVER, running, shown, tags
from tests.fakes import FakeClock
from tests.unit.web.events import FAILED, STARTED, delta, finished, whole

WHEN = "2026-01-02T03:04:05.000000Z"
BEGIN = b'{"model":"m","created_at":"2026-01-02T03:04:05.000000Z",'


def stream(carrier: Carrier, took_s: float = 1.0) -> OllamaStream:
    clock = FakeClock()
    head = Head(model="m", created_at=WHEN, clock=clock, began_s=clock())
    clock.advance(took_s)
    return OllamaStream(head, carrier)


ENDED = (
    b'"done":true,"done_reason":"stop","total_duration":1000000000,"load_duration":500000000,'
    b'"prompt_eval_count":3,"prompt_eval_duration":200000000,"eval_count":2,'
    b'"eval_duration":300000000}\n'
)


def test_a_chat_stream_to_the_letter() -> None:
    made = stream(SAID)
    assert whole(made, STARTED, delta("a\n\u2028"), delta("ü"), finished()) == (
        BEGIN
        + b'"message":{"role":"assistant","content":"a\\n\\u2028"},"done":false}\n'
        + BEGIN
        + '"message":{"role":"assistant","content":"ü"},"done":false}\n'.encode()
        + BEGIN
        + b'"message":{"role":"assistant","content":""},'
        + ENDED
    )
    assert made.ended


def test_a_generate_stream_to_the_letter() -> None:
    made = stream(GENERATED)
    assert whole(made, STARTED, delta("a"), finished()) == (
        BEGIN + b'"response":"a","done":false}\n' + BEGIN + b'"response":"",' + ENDED
    )


def test_an_answer_that_was_cut_says_so() -> None:
    cut = finished(FinishReason.LENGTH, clipped_max_tokens=2)
    last = whole(stream(SAID), STARTED, cut)
    assert b'"done_reason":"length"' in last
    assert last.endswith(b'"clipped_max_tokens":2}\n')


def test_durations_are_never_negative() -> None:
    assert b'"total_duration":500000000,"load_duration":0,' in whole(
        stream(SAID, 0.0), STARTED, finished()
    )


def test_a_failure_in_mid_stream() -> None:
    made = stream(SAID)
    assert whole(made, STARTED, FAILED) == b'{"error":"broke"}\n'
    assert made.ended


def test_times() -> None:
    assert rfc3339(1_700_000_000) == "2023-11-14T22:13:20.000000Z"
    assert nanoseconds(1e-9) == 1


MEMORY = ModelMemory(weights_bytes=5, kv_bytes=3, arena_bytes=2, kv_reserved_bytes=9)


def model(name: str, state: ModelState = ModelState.READY, **fields: object) -> ModelInfo:
    return ModelInfo(name=name, kind="causal-lm", state=state, created=0, **fields)  # type: ignore[arg-type]


def report(**last_used_s: float) -> UsageReport:
    models = {
        name: ModelUsage(
            usage_count=1,
            total_s=1.0,
            last_used_s=used,
            priority_score=1.0,
            likelihood=0.0,
            hours=(0,) * 24,
            followed_by={},
        )
        for name, used in last_used_s.items()
    }
    return UsageReport(predictor="score", preload_top=0, models=models, recommendations=())


@pytest.mark.parametrize(
    ("one", "expires"),
    [
        (model("a", keep_alive_s=300.0), rfc3339(1200)),
        (model("a", keep_alive_s=50.0), rfc3339(1000)),
        (model("a", keep_alive_s=50.0, in_use=1), rfc3339(1050)),
        (model("b", keep_alive_s=50.0), rfc3339(1050)),
        (model("a", keep_alive_s=FOREVER_S), NEVER),
        (model("a", keep_alive_s=1.0, pinned=True), NEVER),
    ],
)
def test_when_a_model_leaves(one: ModelInfo, expires: str) -> None:
    (told,) = running((one,), {}, report(a=900.0), 1000.0)["models"]
    assert told["expires_at"] == expires


def card(name: str, **fields: object) -> ModelCard:
    known: dict[str, object] = {
        "kind": "causal-lm",
        "architecture": "LlamaForCausalLM",
        "parameters": 134_515_008,
        "source": "here",
        "licence": "apache-2.0",
        "bytes": 100,
        "sha256": "ab",
        "context_tokens": 8,
        "vocab_size": 9,
        "schemes": ("int8", "x4"),
        "chat_template": "t",
        "defaults": {"temperature": 0.2, "repetition_penalty": 1.0},
    }
    return ModelCard(name=name, **known | fields)  # type: ignore[arg-type]


def test_what_is_in_memory_and_what_there_is() -> None:
    models = (
        model("a", memory=MEMORY, keep_alive_s=1.0, context_tokens=7),
        model("b", ModelState.ABSENT),
        model("c", ModelState.LOADING),
        model("d", ModelState.DRAINING),
    )
    found = running(models, {"a": card("a")}, report(), 0.0)["models"]
    assert [one["name"] for one in found] == ["a:latest", "d:latest"]
    assert (found[0]["size"], found[0]["size_vram"], found[0]["context_length"]) == (10, 0, 7)
    told = tags(models, {"b": card("b")})["models"]
    assert [one["model"] for one in told] == ["a:latest", "b:latest", "c:latest", "d:latest"]
    assert [(one["size"], one["digest"]) for one in told[:2]] == [(0, "0" * 64), (100, "ab")]
    assert told[1]["details"] == {
        "parent_model": "",
        "format": "onnx",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "134.52M",
        "quantization_level": "int8",
    }
    assert told[0]["details"]["family"] == "causal-lm"


def test_an_adapter_s_name_has_its_tag_already() -> None:
    (told,) = tags((model("base:own"),), {})["models"]
    assert (told["name"], told["model"]) == ("base:own", "base:own")


@pytest.mark.parametrize(
    ("parameters", "size"), [(999, "999"), (135_000_000, "135M"), (3_210_000_000, "3.21B")]
)
def test_numbers_of_parameters(parameters: int, size: str) -> None:
    told = shown(model("a"), card("a", parameters=parameters))
    assert told["details"]["parameter_size"] == size


@pytest.mark.parametrize(
    ("architecture", "family"),
    [("Qwen2ForCausalLM", "qwen2"), ("BertModel", "bert"), ("", "causal-lm"), ("llama", "llama")],
)
def test_families(architecture: str, family: str) -> None:
    facts = shown(model("a"), card("a", architecture=architecture))["model_info"]
    assert facts["general.architecture"] == family


def test_what_a_model_is_shown_to_be() -> None:
    one = model("a", tasks=("generate", "chat", "embed"), context_tokens=7, dimensions=3)
    told = shown(one, card("a"))
    assert told["capabilities"] == ["completion", "tools", "embedding"]
    assert told["parameters"] == "temperature 0.2\nrepeat_penalty 1"
    assert (told["template"], told["license"]) == ("t", "apache-2.0")
    assert told["model_info"] == {
        "general.architecture": "llama",
        "general.basename": "a",
        "general.parameter_count": 134_515_008,
        "llama.context_length": 7,
        "llama.vocab_size": 9,
        "llama.embedding_length": 3,
    }
