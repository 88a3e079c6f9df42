"""Ranking, labels and masks over a real loopback socket, in the shapes that clients know."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from nsedge.api import Activation, Aggregation, Classify, Fill, Media, Priority, Score
from tests.fake_answers import MASK
from tests.fakes import LABELS, MODEL, FakeService
from tests.web_server import answered

DOCUMENTS = ["bb", "a", "dddd", "ccc"]
RANKED = [2, 3, 0, 1]
"""By length, which is what the fake scores by."""


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "query": "which?", "documents": DOCUMENTS, **fields}


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/reranking"])
def test_documents_from_the_best_on_with_their_texts(path: str) -> None:
    answer: Any = answered("POST", path, asked()).json
    assert [one["index"] for one in answer["results"]] == RANKED
    assert [one["relevance_score"] for one in answer["results"]] == [4.0, 3.0, 2.0, 1.0]
    assert [one["document"]["text"] for one in answer["results"]] == ["dddd", "ccc", "bb", "a"]
    tokens = answer["usage"]["total_tokens"]
    assert answer == {
        "id": answer["id"],
        "object": "list",
        "model": MODEL,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": answer["results"],
    }


def test_what_a_body_says_becomes_a_task() -> None:
    service = FakeService()
    body = asked(
        documents=[{"text": "a"}, "b"], truncation=True, priority="batch", rank_fields=["text"]
    )
    assert answered("POST", "/v1/rerank", body, service=service).status == 200
    (request,) = service.requests
    assert request.task == Score(query="which?", documents=("a", "b"), truncate=True)
    assert request.priority is Priority.BATCH


def test_the_best_alone_and_without_their_texts() -> None:
    answer: Any = answered("POST", "/v1/rerank", asked(top_n=2, return_documents=False)).json
    assert answer["results"] == [
        {"index": 2, "relevance_score": 4.0},
        {"index": 3, "relevance_score": 3.0},
    ]


def test_cohere_finds_its_own_fields() -> None:
    answer: Any = answered("POST", "/v2/rerank", asked(top_n=1)).json
    assert answer["results"] == [{"index": 2, "relevance_score": 4.0}]
    assert answer["meta"] == {"api_version": {"version": "2"}}
    assert answer["id"]


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"documents": []}, "empty_prompt", "documents is empty"),
        ({"documents": ["a", ""]}, "invalid_parameter", "documents[1] is empty"),
        ({"documents": ["a"] * 2049}, "invalid_parameter", "2049 documents are beyond"),
        ({"query": ""}, "invalid_parameter", "query is empty"),
        ({"top_n": 0}, "invalid_parameter", "top_n must be at least 1, not 0"),
        ({"rank_fields": ["title"]}, "invalid_parameter", "by their text alone"),
        ({"max_chunks_per_doc": 3}, "invalid_parameter", "max_chunks_per_doc is not supported"),
        ({"top_k": 3}, "invalid_parameter", "'top_k' is not a field that is known here"),
    ],
)
def test_what_is_wrong_is_told(fields: dict[str, Any], code: str, told: str) -> None:
    answer: Any = answered("POST", "/v1/rerank", asked(**fields))
    assert answer.status == 400
    assert answer.json["code"] == code
    assert told in answer.json["message"]
    assert answer.json["detail"] == answer.json["message"]


def test_a_model_that_does_not_score_says_so() -> None:
    service = FakeService(tasks=("generate",))
    answer: Any = answered("POST", "/v1/rerank", asked(), service=service)
    assert (answer.status, answer.json["code"]) == (400, "unsupported_task")
    assert answered("POST", "/v1/rerank", asked(model="none")).status == 404


def test_labels_in_the_shapes_of_jina_and_vllm() -> None:
    body = {"model": MODEL, "input": ["one", {"text": "two"}]}
    answer: Any = answered("POST", "/v1/classify", body).json
    first, second = answer["data"]
    assert first == {
        "object": "classification",
        "index": 0,
        "prediction": "long",
        "score": 0.75,
        "predictions": [{"label": "long", "score": 0.75}, {"label": "short", "score": 0.25}],
        "label": "long",
        "num_classes": 2,
        "probs": [0.25, 0.75],
    }
    assert second["index"] == 1
    assert (answer["object"], answer["model"]) == ("list", MODEL)


def test_a_part_of_the_labels_has_no_probs() -> None:
    answer: Any = answered("POST", "/v1/classify", {"model": MODEL, "input": "x", "top_k": 1}).json
    assert answer["data"][0]["predictions"] == [{"label": "long", "score": 0.75}]
    assert "probs" not in answer["data"][0]
    assert answer["data"][0]["num_classes"] == len(LABELS)


def test_spans_of_models_that_label_tokens() -> None:
    service = FakeService(head="token-classification")
    body = {"model": MODEL, "input": "Marta", "aggregation": "simple"}
    answer: Any = answered("POST", "/v1/classify", body, service=service).json
    assert answer["data"] == [
        {
            "object": "token_classification",
            "index": 0,
            "entities": [{"label": "PER", "score": 0.75, "word": "Marta", "start": 0, "end": 5}],
        }
    ]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, Classify(inputs=("x",))),
        ({"activation": False}, Classify(inputs=("x",), activation=Activation.NONE)),
        ({"use_activation": True}, Classify(inputs=("x",))),
        ({"activation": "sigmoid"}, Classify(inputs=("x",), activation=Activation.SIGMOID)),
        ({"aggregation": "max"}, Classify(inputs=("x",), aggregation=Aggregation.MAX)),
        ({"input": [{"text": "x", "text_pair": "y"}]}, Classify(inputs=(("x", "y"),))),
        ({"truncate": True, "top_k": 2}, Classify(inputs=("x",), truncate=True, top_k=2)),
    ],
)
def test_what_is_asked_of_a_classifier(fields: dict[str, Any], wanted: Classify) -> None:
    service = FakeService()
    body = {"model": MODEL, "input": "x", **fields}
    assert answered("POST", "/v1/classify", body, service=service).status == 200
    assert service.requests[-1].task == wanted


@pytest.mark.parametrize(
    "fields",
    [
        {"input": []},
        {"input": ["a", ""]},
        {"labels": ["a", "a"]},
        {"aggregation": "some"},
        {"top_k": 0},
    ],
)
def test_a_classifier_refuses(fields: dict[str, Any]) -> None:
    answer = answered("POST", "/v1/classify", {"model": MODEL, "input": "x", **fields})
    assert answer.status == 400


def test_masks_are_filled_in_their_text() -> None:
    service = FakeService()
    text = f"a {MASK} and a {MASK}"
    body = {"model": MODEL, "input": text, "top_k": 2}
    answer: Any = answered("POST", "/v1/fill", body, service=service).json
    assert service.requests[-1].task == Fill(inputs=(text,), top_k=2)
    (found,) = answer["data"]
    assert found["index"] == 0
    assert [[one["sequence"] for one in tokens] for tokens in found["masks"]] == [
        [f"a t0 and a {MASK}", f"a t1 and a {MASK}"],
        [f"a {MASK} and a t0", f"a {MASK} and a t1"],
    ]
    assert found["masks"][0][0]["token_str"] == " t0"


def test_errors_below_these_paths_are_in_their_shape() -> None:
    answer = answered("POST", "/v1/rerank/other", {})
    assert answer.status == 404
    assert set(msgspec.json.decode(answer.body)) == {"detail", "message", "code"}


PNG = b"\x89PNG\r\n\x1a\n a little picture"


def test_pictures_and_labels_of_ones_own() -> None:
    service = FakeService()
    picture = {"image": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}
    body = {
        "model": MODEL,
        "input": [picture, {"text": "one"}, {"text": "one", "text_pair": "two"}],
        "labels": ["boat", "train"],
        "prompt": "a {}",
    }
    assert answered("POST", "/v1/classify", body, service=service).status == 200
    (request,) = service.requests
    assert request.task == Classify(
        inputs=(Media(type="image/png", data=PNG), "one", ("one", "two")),
        labels=("boat", "train"),
        prompt="a {}",
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "input[0] wants either a text or an image"),
        ({"text": "a", "image": "b"}, "input[0] wants either a text or an image"),
        ({"image": "aGVsbG8="}, "input[0].image is no PNG"),
        ({"image": "http://example.org/a.png"}, "nothing is fetched"),
    ],
)
def test_inputs_that_are_none_are_named(given: dict[str, str], message: str) -> None:
    answer = answered("POST", "/v1/classify", {"model": MODEL, "input": [given]})
    assert answer.status == 400
    assert message in str(answer.json["detail"])
