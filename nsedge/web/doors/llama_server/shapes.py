"""The types of llama-server's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from nsedge.web.logprobs import TokenObject
from nsedge.web.usage import Clipped


class Candidate(TokenObject):
    """A token that could have been written."""

    id: int


class Token(Candidate):
    """A token, and the likeliest in its place."""

    top_logprobs: list[Candidate]


class Probabilities(TypedDict, total=False):
    """Log-probabilities, where they were asked for."""

    completion_probabilities: list[Token]


class TimingsObject(TypedDict):
    """How long prompt and answer took, in milliseconds, and their rates."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class Piece(TypedDict, total=False):
    """What carries a text."""

    index: int
    content: str
    tokens: Sequence[int]
    id_slot: int


class End(Clipped, total=False):
    """How an answer ended."""

    stop: bool
    model: str
    tokens_predicted: int
    tokens_evaluated: int
    generation_settings: dict[str, Any]
    prompt: str | tuple[int, ...]
    has_new_line: bool
    truncated: bool
    stop_type: str
    stopping_word: str
    tokens_cached: int
    timings: TimingsObject


class Completion(Piece, End, Probabilities):
    """An answer to one prompt; where `response_fields` are asked for, these alone."""


class TokenPiece(TypedDict):
    """A token, and what it adds to a text; as bytes where it is no text by itself."""

    id: int
    piece: str | list[int]


class TokenizeAnswer(TypedDict):
    """The tokens of a text."""

    tokens: list[int | TokenPiece]


class DetokenizeAnswer(TypedDict):
    """The text of tokens."""

    content: str


class Settings(TypedDict):
    """How answers are given where a request says nothing."""

    n_ctx: int
    params: dict[str, float]


class Modalities(TypedDict):
    """What a model takes beside text."""

    vision: bool
    audio: bool


class Props(TypedDict):
    """What is known of a model."""

    default_generation_settings: Settings
    total_slots: int
    model_alias: str
    model_path: str
    modalities: Modalities
    chat_template: str
    bos_token: str
    eos_token: str
    build_info: str
    is_sleeping: bool


class Slot(TypedDict):
    """A place for one running request."""

    id: int
    n_ctx: int
    speculative: bool
    is_processing: bool


class ErrorObject(TypedDict):
    """What went wrong; of a prompt that is too long, with its figures."""

    code: int
    message: str
    type: str
    n_prompt_tokens: NotRequired[int]
    n_ctx: NotRequired[int]


class ErrorBody(TypedDict):
    """llama-server's error object."""

    error: ErrorObject
