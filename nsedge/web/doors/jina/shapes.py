"""The answers of the Jina door."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from nsedge.web.reranking import Ranked


class ErrorBody(TypedDict):
    """What went wrong, under the names that Jina's and Cohere's clients look for."""

    detail: str
    message: str
    code: str


class ReadTokens(TypedDict):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Version(TypedDict):
    """Of Cohere's API."""

    version: str


class Meta(TypedDict):
    """What Cohere tells beside its results."""

    api_version: Version


class RankedPage(TypedDict):
    """Documents from the best on."""

    id: str
    object: str
    model: str
    usage: ReadTokens
    results: list[Ranked]
    meta: NotRequired[Meta]


class Prediction(TypedDict):
    """A label, and how sure it is."""

    label: str
    score: float


class Entity(TypedDict):
    """A labelled span of a text, or a token where there is no aggregation."""

    label: str
    score: float
    word: str
    start: int
    end: int
    index: NotRequired[int]


class Classified(TypedDict):
    """A text's labels: Jina's fields, and those of vLLM; or, where `object` is
    token_classification, the spans in it. probs: in the order of the model's labels, where all of
    them were asked for."""

    object: str
    index: int
    prediction: NotRequired[str]
    score: NotRequired[float]
    predictions: NotRequired[list[Prediction]]
    label: NotRequired[str]
    probs: NotRequired[list[float]]
    num_classes: NotRequired[int]
    entities: NotRequired[list[Entity]]


class ClassifiedPage(TypedDict):
    """What was found in each input."""

    id: str
    object: str
    created: int
    model: str
    data: list[Classified]
    usage: ReadTokens


class Filled(TypedDict):
    """A token that fits a mask. sequence: the text with it in the mask's place."""

    score: float
    token: int
    token_str: str
    sequence: str


class FilledText(TypedDict):
    """The tokens for each mask of a text."""

    index: int
    masks: list[list[Filled]]


class FilledPage(TypedDict):
    """What was found for each input."""

    object: str
    model: str
    data: list[FilledText]
    usage: ReadTokens
