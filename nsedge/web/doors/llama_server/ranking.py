"""`POST /rerank`: llama-server's shape, and that of text-embeddings-inference, which it speaks,
too."""

from __future__ import annotations

from typing import ClassVar, NotRequired, TypedDict

import msgspec
from aiohttp import web

from nsedge.api import Score
from nsedge.errors import InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives, json_answer, read_json, takes
from nsedge.web.hints import NULL, Filled, Rules
from nsedge.web.other_fields import OtherFields
from nsedge.web.reranking import Document, Ranked, RankingBody, rank_request, ranked

OTHERS = OtherFields()
_SOME = {"type": "array", "minItems": 1}


class RerankBody(RankingBody, kw_only=True):
    """`POST /rerank`. `texts` and `return_text` are documents and return_documents as
    text-embeddings-inference calls them, whose answer is another one."""

    rules: ClassVar[Rules] = (
        {
            "oneOf": [
                {"required": ["documents"], "properties": {"documents": _SOME, "texts": NULL}},
                {
                    "required": ["texts"],
                    "properties": {"texts": _SOME, "documents": {"maxItems": 0}},
                },
            ]
        },
    )
    documents: list[Filled | Document] = msgspec.field(default_factory=list)
    texts: list[Filled] | None = None
    return_text: bool | None = None
    model: str | None = None


class ReadTokens(TypedDict):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class RankedPage(TypedDict):
    """Documents from the best on."""

    model: str
    object: str
    usage: ReadTokens
    results: list[Ranked]


class RankedText(TypedDict):
    """A text's place and score, as text-embeddings-inference tells it."""

    index: int
    score: float
    text: NotRequired[str]


@needs(Scope.INFER)
@takes(RerankBody, OTHERS)
@gives(RankedPage | list[RankedText])
async def rerank(http: web.Request) -> web.Response:
    """`POST /rerank`, and `/reranking`; without a model, by the first that scores."""
    answering = http.app[ANSWERING]
    body = await read_json(http, RerankBody, OTHERS)
    if body.texts is not None:
        if body.documents:
            raise InvalidParameter("documents and texts are the same; give one", param="texts")
        body.documents = list(body.texts)
    with answering.label(http) as label:
        model = (await answering.model(body.model, task=Score.name)).name
        request = rank_request(body, model=model, request_id=label, limits=answering.limits)
        (choice,) = await answering.whole(http, [request])
    found = ranked(choice, body, with_texts=bool(body.return_documents or body.return_text))
    if body.texts is not None:
        return json_answer([_ranked_text(one) for one in found])
    tokens = choice.finished.usage.prompt_tokens
    page: RankedPage = {
        "model": body.model or model,
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": found,
    }
    return json_answer(page)


def _ranked_text(one: Ranked) -> RankedText:
    told: RankedText = {"index": one["index"], "score": one["relevance_score"]}
    if "document" in one:
        told["text"] = one["document"]["text"]
    return told
