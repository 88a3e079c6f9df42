"""Documents in the order of how well they answer a query: what every route that ranks them shares;
pure."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

import msgspec

from nsedge.api import Request, Score
from nsedge.api.collecting import scores_of
from nsedge.api.inputs import MAX_INPUTS
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.web.bodies import Integer
from nsedge.web.choices import Choice
from nsedge.web.hints import Filled, hint
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import SchedulingBody, check_length, scheduling


class Document(msgspec.Struct):
    """A document as an object."""

    text: Filled


class RankingBody(SchedulingBody, kw_only=True):
    """What says how documents are ranked."""

    query: Filled
    documents: Annotated[list[Filled | Document], hint(minItems=1, maxItems=MAX_INPUTS)]
    top_n: Annotated[Integer, hint(minimum=1)] | None = None
    return_documents: bool | None = None
    truncate: bool | None = None
    """Cut off what is longer than the model reads."""
    truncation: bool | None = None
    """The same, as Jina calls it."""
    rank_fields: Annotated[list[str], hint(enum=[[], ["text"]])] | None = None
    """Of documents that are objects; they have a text alone here."""


class RankedText(TypedDict):
    """A document."""

    text: str


class Ranked(TypedDict):
    """A document's place and score. index: where it stood among those given."""

    index: int
    relevance_score: float
    document: NotRequired[RankedText]


def texts_of(body: RankingBody) -> tuple[str, ...]:
    """The documents' texts."""
    return tuple(one if isinstance(one, str) else one.text for one in body.documents)


def rank_request(body: RankingBody, *, model: str, request_id: str, limits: WebLimits) -> Request:
    """The request that a body asks for.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    documents = texts_of(body)
    if not documents:
        raise EmptyPrompt("documents is empty", param="documents")
    if len(documents) > MAX_INPUTS:
        raise InvalidParameter(
            f"{len(documents)} documents are beyond the limit of {MAX_INPUTS}", param="documents"
        )
    if body.top_n is not None and body.top_n < 1:
        raise InvalidParameter(f"top_n must be at least 1, not {body.top_n}", param="top_n")
    if body.rank_fields not in (None, [], ["text"]):
        raise InvalidParameter("documents are ranked by their text alone", param="rank_fields")
    check_length(len(body.query) + sum(map(len, documents)), limits, "documents")
    request = Request(
        request_id=request_id,
        model=model,
        task=Score(
            query=body.query,
            documents=documents,
            truncate=bool(body.truncate or body.truncation),
        ),
        **scheduling(body),
    )
    request.check()
    return request


def ranked(choice: Choice, body: RankingBody, *, with_texts: bool) -> list[Ranked]:
    """The best documents, `top_n` at most, from the best on."""
    scores = scores_of(choice.results)
    texts = texts_of(body)
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    found: list[Ranked] = []
    for at in order[: body.top_n]:
        one: Ranked = {"index": at, "relevance_score": scores[at]}
        if with_texts:
            one["document"] = {"text": texts[at]}
        found.append(one)
    return found
