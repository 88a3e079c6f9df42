"""The Jina door: documents ranked, texts labelled, masks filled, in the shapes that clients of
Jina, Cohere and vLLM know."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from aiohttp import web

from nsedge.api import Filling, Fillings, Label, Labels, ModelInfo
from nsedge.security.keyring import Scope
from nsedge.web import http_guard
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives, json_answer, read_json, takes
from nsedge.web.choices import Choice
from nsedge.web.door import Door
from nsedge.web.doors.jina.bodies import (
    CLASSIFY_OTHERS,
    FILL_OTHERS,
    RANK_OTHERS,
    ClassifyBody,
    FillBody,
    RerankBody,
    classify_request,
    fill_request,
)
from nsedge.web.doors.jina.shapes import (
    Classified,
    ClassifiedPage,
    Entity,
    ErrorBody,
    Filled,
    FilledPage,
    FilledText,
    Prediction,
    RankedPage,
    ReadTokens,
)
from nsedge.web.errors import Refusal
from nsedge.web.reranking import rank_request, ranked

TOKENS = "token-classification"


@needs(Scope.INFER)
@takes(RerankBody, RANK_OTHERS)
@gives(RankedPage)
async def rerank(http: web.Request) -> web.Response:
    """`POST /v1/rerank`: Jina's shape; documents come with their texts, unless told not to."""
    return json_answer(await _ranked_page(http, with_texts=True))


@needs(Scope.INFER)
@takes(RerankBody, RANK_OTHERS)
@gives(RankedPage)
async def rerank_v2(http: web.Request) -> web.Response:
    """`POST /v2/rerank`: Cohere's shape."""
    page = await _ranked_page(http, with_texts=False)
    return json_answer(page | {"meta": {"api_version": {"version": "2"}}})


async def _ranked_page(http: web.Request, *, with_texts: bool) -> RankedPage:
    answering = http.app[ANSWERING]
    body = await read_json(http, RerankBody, RANK_OTHERS)
    with answering.label(http) as label:
        request = rank_request(body, model=body.model, request_id=label, limits=answering.limits)
        (choice,) = await answering.whole(http, [request])
    wanted = with_texts if body.return_documents is None else body.return_documents
    return {
        "id": http[http_guard.REQUEST_ID],
        "object": "list",
        "model": body.model,
        "usage": _read(choice),
        "results": ranked(choice, body, with_texts=wanted),
    }


@needs(Scope.INFER)
@takes(ClassifyBody, CLASSIFY_OTHERS)
@gives(ClassifiedPage)
async def classify(http: web.Request) -> web.Response:
    """`POST /v1/classify`: labels of texts, or of the spans in them."""
    answering = http.app[ANSWERING]
    body = await read_json(http, ClassifyBody, CLASSIFY_OTHERS)
    with answering.label(http) as label:
        request = classify_request(body, label, answering.limits)
        model = await answering.model(body.model)
        (choice,) = await answering.whole(http, [request])
    page: ClassifiedPage = {
        "id": http[http_guard.REQUEST_ID],
        "object": "list",
        "created": int(time.time()),
        "model": body.model,
        "data": classified(choice, model, body.labels or model.labels),
        "usage": _read(choice),
    }
    return json_answer(page)


@needs(Scope.INFER)
@takes(FillBody, FILL_OTHERS)
@gives(FilledPage)
async def fill(http: web.Request) -> web.Response:
    """`POST /v1/fill`: tokens for the masks in texts."""
    answering = http.app[ANSWERING]
    body = await read_json(http, FillBody, FILL_OTHERS)
    with answering.label(http) as label:
        request = fill_request(body, label, answering.limits)
        model = await answering.model(body.model)
        (choice,) = await answering.whole(http, [request])
    texts = [body.input] if isinstance(body.input, str) else body.input
    page: FilledPage = {
        "object": "list",
        "model": body.model,
        "data": filled(choice, texts, model.mask or ""),
        "usage": _read(choice),
    }
    return json_answer(page)


def classified(choice: Choice, model: ModelInfo, known: Sequence[str]) -> list[Classified]:
    """What was found in each input; `known`: the labels there are."""
    found = [
        labels for event in choice.results if isinstance(event, Labels) for labels in event.labels
    ]
    if model.head == TOKENS:
        return [
            {"object": "token_classification", "index": at, "entities": list(map(_entity, labels))}
            for at, labels in enumerate(found)
        ]
    return [_classified(at, labels, known) for at, labels in enumerate(found)]


def _classified(index: int, found: Sequence[Label], known: Sequence[str]) -> Classified:
    predictions: list[Prediction] = [{"label": one.label, "score": one.score} for one in found]
    best = predictions[0]
    told: Classified = {
        "object": "classification",
        "index": index,
        "prediction": best["label"],
        "score": best["score"],
        "predictions": predictions,
        "label": best["label"],
        "num_classes": len(known),
    }
    if len(found) == len(known):
        scores = {one.label: one.score for one in found}
        told["probs"] = [scores[label] for label in known]
    return told


def _entity(label: Label) -> Entity:
    told: Entity = {
        "label": label.label,
        "score": label.score,
        "word": label.word or "",
        "start": label.start or 0,
        "end": label.end or 0,
    }
    if label.index is not None:
        told["index"] = label.index
    return told


def filled(choice: Choice, texts: Sequence[str], mask: str) -> list[FilledText]:
    """The tokens for the masks of each of `texts`."""
    found = [
        masks for event in choice.results if isinstance(event, Fillings) for masks in event.masks
    ]
    return [
        {
            "index": at,
            "masks": [
                [_filled(one, text, mask, which) for one in tokens]
                for which, tokens in enumerate(masks)
            ],
        }
        for at, (text, masks) in enumerate(zip(texts, found, strict=True))
    ]


def _filled(filling: Filling, text: str, mask: str, which: int) -> Filled:
    parts = text.split(mask)
    whole = mask.join(parts[: which + 1]) + filling.token.strip() + mask.join(parts[which + 1 :])
    return {
        "score": filling.score,
        "token": filling.token_id,
        "token_str": filling.token,
        "sequence": whole,
    }


def _read(choice: Choice) -> ReadTokens:
    tokens = choice.finished.usage.prompt_tokens
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def error_body(refusal: Refusal) -> bytes:
    """The error that tells of `refusal`."""
    told: ErrorBody = {
        "detail": refusal.message,
        "message": refusal.message,
        "code": refusal.code,
    }
    return msgspec.json.encode(told)


DOOR = Door(
    name="jina",
    prefixes=("/v1/rerank", "/v1/reranking", "/v2/rerank", "/v1/classify", "/v1/fill"),
    routes=(
        web.post("/v1/rerank", rerank),
        web.post("/v1/reranking", rerank),
        web.post("/v2/rerank", rerank_v2),
        web.post("/v1/classify", classify),
        web.post("/v1/fill", fill),
    ),
    error_body=error_body,
    error_kind=ErrorBody,
)
