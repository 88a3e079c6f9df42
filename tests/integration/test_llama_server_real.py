"""llama-server's own routes in front of the real daemon, by the cases that its clients rely on:
texts and tokens, what an answer tells, what is refused, slots, and readers that go away."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.daemon import free_port
from tests.integration.test_access_real import nsedge, up
from tests.integration.test_client_doors_real import asked, records, run
from tests.web_server import Answer, Connection, ask

pytestmark = pytest.mark.integration

CONTEXT = 512
SLOTS = 2
PROMPT = "I believe the meaning of life is"
GREEDY: dict[str, Any] = {"prompt": PROMPT, "temperature": 0}
ENDLESS = GREEDY | {"n_predict": -1, "ignore_eos": True}
LONG = "Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 60


@pytest.fixture(scope="module")
def port(starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    with up(
        tmp_path_factory.mktemp("llama-server"),
        NSEDGE_MODELS_LOAD=str(starter_bundle.resolve()),
        NSEDGE_WEB_PORT=str(port),
        NSEDGE_ENGINE_SLOTS=str(SLOTS),
        NSEDGE_ENGINE_CONTEXT_TOKENS=str(CONTEXT),
    ):
        yield port


def completed(port: int, **body: Any) -> Any:
    answer = asked(port, "/completion", GREEDY | body)
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body)


def streamed(port: int, **body: Any) -> tuple[list[Any], Any]:
    """The pieces of a stream, and its end."""
    answer = asked(port, "/completion", GREEDY | body | {"stream": True})
    assert answer.status == 200, answer.body
    *pieces, end = records(answer)
    assert not any(piece["stop"] for piece in pieces)
    assert end["stop"]
    return pieces, end


def tokens_of(port: int, text: str, **more: Any) -> list[int]:
    found: Any = asked(port, "/tokenize", {"content": text, **more}).json["tokens"]
    return list(found)


def refused(port: int, path: str, body: object) -> tuple[int, Any]:
    answer = asked(port, path, body)
    return answer.status, msgspec.json.decode(answer.body)["error"]


# Texts and tokens.


def test_what_an_answer_tells_whole_and_streamed(port: int) -> None:
    whole = completed(port, n_predict=8, return_tokens=True)
    length = len(tokens_of(port, PROMPT))
    assert whole["tokens_evaluated"] == length
    assert whole["timings"]["prompt_n"] + whole["timings"]["cache_n"] == length
    assert whole["timings"]["predicted_n"] == whole["tokens_predicted"] == len(whole["tokens"]) == 8
    assert (whole["truncated"], whole["stop_type"], whole["stopping_word"]) == (False, "limit", "")
    assert whole["has_new_line"] is ("\n" in whole["content"])
    assert whole["generation_settings"]["max_tokens"] == 8
    assert whole["prompt"] == PROMPT
    told = asked(port, "/detokenize", {"tokens": whole["tokens"]}).json
    assert told == {"content": whole["content"]}
    pieces, end = streamed(port, n_predict=8)
    assert "".join(piece["content"] for piece in pieces) == whole["content"]
    assert list(itertools.chain(*(piece["tokens"] for piece in pieces))) == whole["tokens"]
    assert all(piece["tokens"] for piece in pieces)
    assert (end["content"], end["tokens"]) == ("", [])
    assert end["timings"].keys() == whole["timings"].keys()
    assert completed(port, n_predict=8)["tokens"] == []


def test_seeds(port: int) -> None:
    def drawn(seed: int) -> str:
        text = completed(port, temperature=1.0, seed=seed, n_predict=12, ignore_eos=True)
        return str(text["content"])

    assert len({drawn(42) for _ in range(3)}) == 1
    assert len({drawn(seed) for seed in range(4)}) == 4


def test_prompts_of_tokens_and_several_at_once(port: int) -> None:
    ids = tokens_of(port, PROMPT, add_special=True)
    text = completed(port, n_predict=8)["content"]
    assert completed(port, prompt=ids, n_predict=8)["content"] == text
    for several in ([ids, ids], [ids, PROMPT], [PROMPT, PROMPT, PROMPT]):
        found = completed(port, prompt=several, n_predict=8)
        assert [one["content"] for one in found] == [text] * len(several)
        assert [one["index"] for one in found] == list(range(len(several)))
    status, error = refused(port, "/completion", {"prompt": [1, 2, PROMPT, 3]})
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert "texts and single ids do not stand beside each other" in error["message"]


def test_tokens_there_and_back(port: int) -> None:
    for text in ("What is the capital of France ?", "with unicode \u5abd and emoji \U0001f917", ""):
        tokens = tokens_of(port, text)
        assert asked(port, "/detokenize", {"tokens": tokens}).json == {"content": text}
    told: Any = asked(port, "/tokenize", {"content": "Ein Ø 🙂", "with_pieces": True}).json[
        "tokens"
    ]
    assert [one["id"] for one in told] == tokens_of(port, "Ein Ø 🙂")
    octets = (one["piece"] for one in told)
    whole = b"".join(one.encode() if isinstance(one, str) else bytes(one) for one in octets)
    assert whole.decode() == "Ein Ø 🙂"
    status, error = refused(port, "/detokenize", {"tokens": [10**6]})
    assert (status, "1000000" in error["message"]) == (400, True)


def test_probabilities_of_each_token(port: int) -> None:
    pieces, _ = streamed(port, n_predict=5, n_probs=10)
    told = list(itertools.chain(*(piece["completion_probabilities"] for piece in pieces)))
    assert completed(port, n_predict=5, n_probs=10)["completion_probabilities"] == told
    assert len(told) == 5
    for token in told:
        assert token["logprob"] <= 0.0
        assert bytes(token["bytes"]).decode() == token["token"]
        assert len(token["top_logprobs"]) == 10
        likeliest = [one["logprob"] for one in token["top_logprobs"]]
        assert likeliest == sorted(likeliest, reverse=True)
        assert token["id"] == token["top_logprobs"][0]["id"]
    assert "".join(token["token"] for token in told) == completed(port, n_predict=5)["content"]


# How it is steered.


@pytest.mark.parametrize("form", ["pairs", "map", "never"])
def test_a_bias_against_tokens(port: int, form: str) -> None:
    text = completed(port, n_predict=24, ignore_eos=True)["content"]
    ids = sorted({*tokens_of(port, text)})[:12]
    bias: Any = [[token, -100] for token in ids]
    if form == "map":
        bias = {str(token): -100 for token in ids}
    elif form == "never":
        bias = [[token, False] for token in ids]
    found = completed(port, n_predict=24, ignore_eos=True, logit_bias=bias, return_tokens=True)
    assert len(found["tokens"]) == 24
    assert not {*found["tokens"]} & {*ids}


def test_words_that_end_an_answer(port: int) -> None:
    text = completed(port, n_predict=40, ignore_eos=True)["content"]
    word = text[len(text) // 2 :][:6]
    found = completed(port, n_predict=40, ignore_eos=True, stop=["no such words", word])
    assert found["content"] == text[: text.index(word)]
    assert (found["stop_type"], found["stopping_word"]) == ("word", word)
    pieces, end = streamed(port, n_predict=40, ignore_eos=True, stop=[word])
    assert "".join(piece["content"] for piece in pieces) == found["content"]
    assert end["stopping_word"] == word


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ({"grammar": 'root ::= "a"{5,5}'}, "a{5}"),
        ({"grammar": 'root ::= ("yes" | "no") "!"?'}, "(yes|no)!?"),
        ({"json_schema": {"const": "42"}}, '"42"'),
        ({"json_schema": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 2}}, r"\[.*\]"),
    ],
)
def test_a_form(port: int, form: dict[str, Any], fits: str) -> None:
    found = completed(port, n_predict=40, **form)
    assert re.fullmatch(fits, found["content"], re.DOTALL), found["content"]
    assert found["stop_type"] == "eos"


def test_fields_that_cannot_be_had_are_refused_by_name(port: int) -> None:
    for name, value in (
        ("post_sampling_probs", True),
        ("n_predict", 0),
        ("lora", [{"id": 0, "scale": 0.5}]),
        ("logit_bias", [[" the", -100]]),
        ("grammar", "root ::="),
        ("json_schema", {"type": "hiccup"}),
        ("temprature", 0.5),
    ):
        status, error = refused(port, "/completion", GREEDY | {name: value})
        assert (status, error["type"]) == (400, "invalid_request_error"), name
        assert name in error["message"], error["message"]


def test_gaps_are_refused_where_the_model_fills_none(port: int) -> None:
    gap = {"input_prefix": "int main() {\n", "prompt": "  int n = ", "input_suffix": "}\n"}
    status, error = refused(port, "/infill", gap)
    assert (status, "not trained to fill a gap" in error["message"]) == (400, True)
    for extra in ([{}], [{"filename": 1, "text": "a"}]):
        status, error = refused(port, "/infill", gap | {"input_extra": extra})
        assert (status, "input_extra" in error["message"]) == (400, True)
    shown = [{"filename": "a.h", "text": "b"}]
    status, error = refused(port, "/infill", gap | {"input_extra": shown})
    assert (status, "not trained to fill a gap" in error["message"]) == (400, True)


# The context.


def test_a_prompt_beyond_the_context_is_refused_with_its_figures(port: int) -> None:
    for stream in (False, True):
        status, error = refused(port, "/completion", {"prompt": LONG, "stream": stream})
        assert (status, error["type"]) == (400, "exceed_context_size_error")
        assert error["n_prompt_tokens"] == len(tokens_of(port, LONG)) > CONTEXT
        assert error["n_ctx"] == CONTEXT


def test_an_answer_ends_with_the_context_and_the_model_with_neither(port: int) -> None:
    found = completed(port, n_predict=-1, ignore_eos=True)
    assert found["stop_type"] == "limit"
    assert found["tokens_evaluated"] + found["tokens_predicted"] == CONTEXT
    assert found["truncated"] is False
    more = completed(port, n_predict=2 * CONTEXT, ignore_eos=True)
    assert more["content"] == found["content"]


# Slots.


def test_what_is_known_of_the_model(port: int) -> None:
    props: Any = asked(port, "/props").json
    assert props["total_slots"] == SLOTS
    assert props["default_generation_settings"]["n_ctx"] == CONTEXT
    assert "<|im_start|>" in props["chat_template"]
    slots: Any = asked(port, "/slots").json
    assert [slot["id"] for slot in slots] == list(range(SLOTS))
    assert {slot["n_ctx"] for slot in slots} == {CONTEXT}
    assert asked(port, "/health").status == 200


async def until_busy(port: int, wanted: int) -> None:
    """Until so many slots work; each look is a request, which takes its time."""
    busy = -1
    while busy != wanted:
        slots: Any = (await ask(port, "GET", "/slots")).json
        busy = sum(slot["is_processing"] for slot in slots)


def test_more_requests_than_slots_are_all_answered(port: int) -> None:
    async def test() -> list[Answer]:
        wanted = GREEDY | {"n_predict": 30, "ignore_eos": True}
        return await asyncio.gather(*(ask(port, "POST", "/completion", wanted) for _ in range(6)))

    assert len({str(answer.json["content"]) for answer in run(test)}) == 1


def test_whether_a_slot_is_free(port: int) -> None:
    async def test() -> None:
        assert (await ask(port, "GET", "/slots?fail_on_no_slot=1")).status == 200
        running = [await Connection.open(port) for _ in range(SLOTS)]
        for connection in running:
            connection.say("POST", "/completion", ENDLESS)
        await until_busy(port, SLOTS)
        answer = await ask(port, "GET", "/slots?fail_on_no_slot=1")
        for connection in running:
            connection.abort()
        await until_busy(port, 0)
        told: Any = answer.json["error"]
        assert (answer.status, told["type"]) == (503, "unavailable_error")

    run(test)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_slot(port: int, *, stream: bool) -> None:
    async def test() -> None:
        connection = await Connection.open(port)
        connection.say("POST", "/completion", ENDLESS | {"stream": stream})
        await until_busy(port, 1)
        before = await ended(port)
        connection.abort()
        await until_busy(port, 0)
        while (after := await ended(port)) == before:  # each look is a request
            pass
        assert after == before | {"cancelled": before.get("cancelled", 0) + 1}

    run(test)


async def ended(port: int) -> dict[str, int]:
    """How requests ended so far."""
    stats: Any = (await ask(port, "GET", "/api/stats")).json["stats"]
    (model,) = stats["models"].values()
    return dict(model["finished"])


# Keys and origins.


def test_keys_and_origins(starter_bundle: Path, tmp_path: Path) -> None:
    port, secret = free_port(), nsedge(tmp_path, "keys", "add", "editor")
    page = "https://editor.example"
    body = GREEDY | {"n_predict": 2}
    preflight = {"access_control_request_method": "POST", "origin": page}

    async def test() -> None:
        for said in ({}, {"authorization": "Bearer invalid"}, {"x_api_key": "invalid"}):
            answer = await ask(port, "POST", "/completions", body, **said)
            assert answer.status == 401
            told: Any = answer.json["error"]
            assert told["type"] == "authentication_error"
        for said in ({"authorization": f"Bearer {secret}"}, {"x_api_key": secret}):
            answer = await ask(port, "POST", "/completions", body, **said)
            assert (answer.status, answer.json["tokens_predicted"]) == (200, 2)
        assert (await ask(port, "GET", "/live")).status == 200
        listed = await ask(port, "OPTIONS", "/completions", **preflight)
        assert listed.headers["access-control-allow-origin"] == page
        other = await ask(port, "OPTIONS", "/completions", **preflight | {"origin": "https://x.y"})
        assert "access-control-allow-origin" not in other.headers

    with up(
        tmp_path,
        NSEDGE_MODELS_LOAD=str(starter_bundle.resolve()),
        NSEDGE_WEB_PORT=str(port),
        NSEDGE_WEB_KEYS=str(tmp_path / "keys" / "keys.json"),
        NSEDGE_WEB_CORS_ORIGINS=page,
    ):
        run(test)
