"""llama-server's completions: their stream to the letter, and over a real loopback socket."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nsedge.api import (
    Delta,
    ExtraFile,
    Finished,
    FinishReason,
    Generate,
    Logprobs,
    Sampling,
    TokenLogprob,
)
from nsedge.errors import ContextExceeded
from nsedge.web.doors.llama_server.answers import CompletionStream, Head
from nsedge.web.doors.llama_server.errors import error_body, type_of
from nsedge.web.doors.llama_server.prompts import _piece
from nsedge.web.errors import Refusal
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.unit.web.events import FAILED, STARTED, delta, finished, whole
from tests.web_server import answered, error_of

PIECE = b'data: {"index":0,"content":"a\\n","tokens":[1],"id_slot":-1,"stop":false}\n\n'
SET = Sampling(temperature=0.5, stop=("x",))


def stream(prompts: int = 1) -> CompletionStream:
    return CompletionStream(Head(model="m", sampling=SET, prompts=["p"] * prompts))


def test_a_stream_to_the_letter() -> None:
    made = stream()
    assert whole(made, STARTED, delta("a\n"), finished()) == b": started\n\n" + PIECE + (
        b'data: {"index":0,"content":"","tokens":[],"id_slot":-1,"stop":true,"model":"m",'
        b'"tokens_predicted":2,"tokens_evaluated":3,'
        b'"generation_settings":{"temperature":0.5,"stop":["x"]},"prompt":"p",'
        b'"has_new_line":true,"truncated":false,"stop_type":"eos","stopping_word":"",'
        b'"tokens_cached":5,"timings":{"cache_n":0,"prompt_n":3,"prompt_ms":200.0,'
        b'"prompt_per_token_ms":66.66666666666667,"prompt_per_second":15.0,"predicted_n":2,'
        b'"predicted_ms":300.0,"predicted_per_token_ms":150.0,'
        b'"predicted_per_second":6.666666666666667}}\n\n'
    )
    assert made.ended


def test_a_failure_in_mid_stream() -> None:
    assert whole(stream(), STARTED, delta("a\n"), FAILED) == b": started\n\n" + PIECE + (
        b'data: {"error":{"code":500,"message":"broke","type":"server_error"}}\n\n'
    )


@pytest.mark.parametrize(
    ("end", "kind", "word"),
    [
        (finished(), "eos", ""),
        (finished(stop="x"), "word", "x"),
        (finished(FinishReason.LENGTH), "limit", ""),
    ],
)
def test_why_it_stopped(end: Finished, kind: str, word: str) -> None:
    last: Any = msgspec.json.decode(whole(stream(), end).rpartition(b"data: ")[2])
    assert (last["stop_type"], last["stopping_word"], last["has_new_line"]) == (kind, word, False)


def test_choices_have_their_index() -> None:
    made = stream(2)
    told = b"".join(made.encode([(index, delta("a"))]) for index in (1, 0))
    assert [line[6:15] for line in told.splitlines() if line.startswith(b"data")] == [
        b'{"index":',
        b'{"index":',
    ]
    assert told.index(b'"index":1') < told.index(b'"index":0')
    assert not made.ended


def test_errors_to_the_letter() -> None:
    figures = {"context_tokens": 100, "prompt_tokens": 120}
    assert error_body(Refusal.of(ContextExceeded("long", figures=figures))) == (
        b'{"error":{"code":400,"message":"long","type":"exceed_context_size_error",'
        b'"n_prompt_tokens":120,"n_ctx":100}}'
    )
    kinds = {400: "invalid_request_error", 401: "authentication_error", 501: "not_supported_error"}
    kinds |= {404: "not_found_error", 503: "unavailable_error", 500: "server_error"}
    assert {status: type_of(status) for status in kinds} == kinds


@pytest.mark.parametrize("path", ["/completion", "/completions"])
def test_one_prompt_and_several(path: str) -> None:
    one: Any = answered("POST", path, {"prompt": "a b", "n_predict": 1}).json
    assert (one["content"], one["stop_type"], one["prompt"]) == ("a", "limit", "a b")
    several: Any = answered("POST", path, {"prompt": ["a", "b c"]}).json
    assert [one["content"] for one in several] == ["a", "b c"]
    assert [one["index"] for one in several] == [0, 1]
    streamed = answered("POST", path, {"prompt": ["a", "b"], "stream": True}).data
    assert [one["index"] for one in streamed if one["stop"]] == [0, 1]  # type: ignore[index]


def test_the_tokens_of_an_answer_are_told_where_they_are_asked_for() -> None:
    body = {"prompt": "a b c"}
    plain: Any = answered("POST", "/completion", body).json
    told: Any = answered("POST", "/completion", body | {"return_tokens": True}).json
    assert (plain["tokens"], told["tokens"]) == ([], [0, 1, 2])
    *pieces, end = answered("POST", "/completion", body | {"stream": True}).data
    assert [one["tokens"] for one in (*pieces, end)] == [[0], [1], [2], []]  # type: ignore[index]


def test_pieces_without_text_tell_their_tokens() -> None:
    silent = Delta(request_id="r", seq=0, text="", token_ids=(7, 8))
    told: Any = msgspec.json.decode(whole(stream(), silent).rpartition(b"data: ")[2])
    assert (told["content"], told["tokens"]) == ("", [7, 8])


def test_prompts_of_tokens() -> None:
    service = FakeService()
    one: Any = answered("POST", "/completion", {"prompt": [7, 8]}, service=service).json
    assert (one["content"], one["prompt"]) == ("7 8", [7, 8])
    body = {"prompt": [[7, 8], "a"]}
    several: Any = answered("POST", "/completion", body, service=service).json
    assert [each["content"] for each in several] == ["7 8", "a"]
    tasks = [request.task for request in service.requests]
    assert [(task.text, task.token_ids) for task in tasks if isinstance(task, Generate)] == [
        ("", (7, 8)),
        ("", (7, 8)),
        ("a", None),
    ]


def asked(**body: Any) -> Sampling:
    service = FakeService()
    answer = answered("POST", "/completion", {"prompt": "p", **body}, service=service)
    assert answer.status == 200, answer.body
    task = service.requests[-1].task
    assert isinstance(task, Generate)
    return task.sampling


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"n_predict": -1}, {"max_tokens": None, "clip_max_tokens": True}),
        ({"n_predict": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"repeat_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"seed": -1}, {"seed": None}),
        ({"seed": 5, "top_k": 3, "ignore_eos": True}, {"seed": 5, "top_k": 3, "ignore_eos": True}),
        ({"cache_prompt": False, "id_slot": 3, "n_keep": 2}, {}),
    ],
)
def test_what_sets_the_sampling(body: dict[str, Any], wanted: dict[str, Any]) -> None:
    sampling = asked(**body)
    assert {name: getattr(sampling, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"prompt": []}, 400, "prompt is empty"),
        ({"prompt": [-1, 2]}, 400, "prompt[0] must be a text, or an array of token ids"),
        ({"prompt": ["a", 2]}, 400, "prompt[1] must be a text, or an array of token ids"),
        ({"prompt": ["a", []]}, 400, "prompt[1] must be a text, or an array of token ids"),
        ({"prompt": [""] * 129}, 400, "129 prompts are beyond the limit of 128"),
        ({"prompt": "x" * 101}, 413, "prompt has 101 characters"),
        ({"n_predict": 0}, 400, "n_predict 0 is not supported"),
        ({"n_predict": 3, "max_tokens": 3}, 400, "n_predict and max_tokens are the same"),
        ({"n": 3, "n_cmpl": 3}, 400, "n_cmpl and n are the same"),
        ({"prompt": ["a", "b"], "n_cmpl": 65}, 400, "2 prompts, 65 answers to each, are beyond"),
        ({"n_cmpl": 0}, 400, "n_cmpl"),
        ({"repeat_penalty": -1}, 400, "repeat_penalty must be above 0"),
        ({"temperature": -1}, 400, "temperature must be at least 0"),
        ({"warmth": 1}, 400, "'warmth' is not a field"),
        ({"model": "none"}, 404, "no model 'none'"),
    ],
)
def test_refusals(body: dict[str, Any], status: int, told: str) -> None:
    limits = WebLimits(max_prompt_chars=100)
    answer = answered("POST", "/completion", {"prompt": "p", **body}, limits=limits)
    error: Any = answer.json["error"]
    assert (answer.status, error["code"]) == (status, status)
    assert told in error["message"]


def test_slots() -> None:
    full = FakeService(max_requests=2)
    told: Any = msgspec.json.decode(answered("GET", "/slots", service=full).body)
    assert [slot["id"] for slot in told] == [0, 1]
    assert not told[0]["is_processing"]
    assert answered("GET", "/slots?model=none").status == 404
    absent = FakeService(loaded=False)
    assert answered("GET", "/slots", service=absent).body == b"[]"
    assert answered("GET", f"/slots?model={MODEL}&fail_on_no_slot=1", service=absent).status == 503
    assert answered("GET", "/slots?fail_on_no_slot=1").status == 200


@pytest.mark.parametrize("path", ["/rerank", "/reranking"])
def test_documents_are_ranked(path: str) -> None:
    body = {"query": "q", "documents": ["a", "ccc", "bb"], "top_n": 2}
    answer: Any = answered("POST", path, body).json
    tokens = answer["usage"]["prompt_tokens"]
    assert answer == {
        "model": MODEL,
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": [{"index": 1, "relevance_score": 3.0}, {"index": 2, "relevance_score": 2.0}],
    }


def test_texts_are_ranked_as_text_embeddings_inference_tells_it() -> None:
    body = {"query": "q", "texts": ["a", "ccc"], "return_text": True}
    answer = answered("POST", "/rerank", body)
    assert msgspec.json.decode(answer.body) == [
        {"index": 1, "score": 3.0, "text": "ccc"},
        {"index": 0, "score": 1.0, "text": "a"},
    ]
    both = answered("POST", "/rerank", body | {"documents": ["a"]})
    assert both.status == 400


def test_without_a_reranker_there_is_none_to_take() -> None:
    service = FakeService(tasks=("generate",))
    answer = answered("POST", "/rerank", {"query": "q", "documents": ["d"]}, service=service)
    assert answer.status == 503


def test_a_gap_to_fill() -> None:
    service = FakeService()
    body = {"input_prefix": "a", "input_suffix": "b", "prompt": " c", "n_predict": 4}
    assert answered("POST", "/infill", body, service=service).status == 200
    task = service.requests[-1].task
    assert isinstance(task, Generate)
    assert (task.text, task.suffix) == ("a c", "b")
    assert answered("POST", "/infill", {**body, "input_suffix": None}).status == 400


def test_other_files_are_shown_beside_a_gap() -> None:
    service = FakeService()
    extra = [{"text": "x = 1", "filename": "x.py"}, {"text": "y"}]
    body = {"input_prefix": "a", "input_suffix": "b", "input_extra": extra}
    assert answered("POST", "/infill", body, service=service).status == 200
    task = service.requests[-1].task
    assert isinstance(task, Generate)
    assert task.extra_files == (
        ExtraFile(name="x.py", text="x = 1"),
        ExtraFile(name="tmp", text="y"),
    )
    small = WebLimits(max_prompt_chars=8)
    for wrong, status, told in (
        ({"input_extra": [{"filename": "x"}]}, 400, "text"),
        ({"input_extra": ["x"]}, 400, "input_extra"),
        ({"input_extra": [{"text": "x" * 9}]}, 413, "input_extra has 12 characters"),
    ):
        answer = answered("POST", "/infill", {**body, **wrong}, limits=small)
        assert (answer.status, told in answer.json["error"]["message"]) == (status, True)


@pytest.mark.parametrize("name", ["n_cmpl", "n"])
def test_several_answers_to_each_prompt(name: str) -> None:
    service = FakeService()
    told: Any = answered("POST", "/completion", {"prompt": "a", name: 2}, service=service).json
    assert [(one["index"], one["prompt"]) for one in told] == [(0, "a"), (1, "a")]
    task = service.requests[-1].task
    assert isinstance(task, Generate)
    assert task.sampling.n == 2
    both: Any = answered("POST", "/completion", {"prompt": ["a", "b"], name: 2}).json
    assert [(one["index"], one["prompt"]) for one in both] == [*enumerate("aabb")]


def test_of_an_answer_only_what_is_asked_for() -> None:
    fields = ["content", "timings/predicted_n", "generation_settings/none", "none/content"]
    body = {"prompt": "a b", "response_fields": fields}
    assert answered("POST", "/completion", body).json == {"content": "a b", "predicted_n": 2}
    last: Any = answered("POST", "/completion", {**body, "stream": True}).data[-1]
    assert last == {"content": "", "predicted_n": 2}


def test_log_probabilities() -> None:
    other = TokenLogprob(id=2, logprob=-1.0, text="b")
    one = Logprobs(id=1, logprob=-0.5, rank=1, text="a", top=(other,))
    shown = Delta(request_id="", seq=0, text="a", token_ids=(1,), logprobs=(one,))
    service = FakeService(shows={"p": (shown,)})
    told = {
        "id": 1,
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"id": 2, "token": "b", "logprob": -1.0, "bytes": [98]}],
    }
    body = {"prompt": "p", "n_probs": 1}
    whole = answered("POST", "/completion", body, service=service).json
    assert whole["completion_probabilities"] == [told]
    first: Any = answered("POST", "/completion", {**body, "stream": True}, service=service).data[0]
    assert (first["content"], first["completion_probabilities"]) == ("a", [told])
    task = service.requests[-1].task
    assert isinstance(task, Generate)
    assert task.sampling.logprobs == 1


def test_tokens_and_text() -> None:
    told = answered("POST", "/tokenize", {"content": "ab c"})
    assert told.json == {"tokens": [2, 1]}
    body = {"content": "ab c", "add_special": True, "model": MODEL}
    assert answered("POST", "/tokenize", body).json == {"tokens": [1, 2, 1]}
    assert answered("POST", "/detokenize", {"tokens": [2, 1]}).json == {"content": "xx x"}
    pieces = answered("POST", "/tokenize", {"content": "ab c", "with_pieces": True})
    assert pieces.json == {"tokens": [{"id": 2, "piece": "ab"}, {"id": 1, "piece": "c"}]}
    assert _piece(b"\xc3") == [0xC3]
    assert answered("POST", "/tokenize", {"content": "a", "model": "none"}).status == 404
    assert answered("POST", "/detokenize", {"tokens": [-1]}).status == 400


def test_what_is_known_of_a_model() -> None:
    told: Any = answered("GET", "/props").json
    assert (told["model_alias"], told["chat_template"]) == (MODEL, "{{ messages }}")
    assert told["default_generation_settings"] == {"n_ctx": 4096, "params": {"temperature": 0.5}}
    assert answered("GET", "/props?model=none").status == 404
    assert answered("GET", "/props?model=").status == 400


def test_a_template_applied() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    told = answered("POST", "/apply-template", {"messages": messages})
    assert told.json == {"prompt": "system: s\nuser: u"}
    assert answered("POST", "/apply-template", {"messages": []}).status == 400
    refused = answered("POST", "/apply-template", {"messages": messages, "keep_alive": "soon"})
    assert refused.status == 400
    assert error_of(refused)["param"] == "keep_alive"
