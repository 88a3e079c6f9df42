"""The types of the studio's answers. Times are in seconds, moments in ISO 8601."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class IdeaObject(TypedDict):
    """An idea, or why there is none: `code` is of docs/errors.md. mean_logprob: of an ensemble
    whose surest answer is chosen."""

    id: str
    title: str
    content: str
    category: str
    model_used: str
    generation_time: float
    error: NotRequired[str]
    code: NotRequired[str]
    mean_logprob: NotRequired[float | None]


class Vote(TypedDict):
    """An answer, and the models that gave it."""

    content: str
    count: int
    models: list[str]


class BatchAnswer(TypedDict):
    """All ideas, and figures of them."""

    ideas: list[IdeaObject]
    total_count: int
    success_count: int
    failed_count: int
    total_time: float
    average_time: float


class Verdict(TypedDict, total=False):
    """What comes of several answers, by the `mode` that asks for it."""

    chosen: IdeaObject | None
    votes: list[Vote]


class EnsembleAnswer(BatchAnswer, Verdict):
    """All ideas, figures of them, and the verdict."""

    mode: str


class ModelObject(TypedDict):
    """A model."""

    key: str
    state: str
    loaded: bool
    kind: str
    tasks: tuple[str, ...]
    aliases: tuple[str, ...]
    context_tokens: int
    error: str | None


class ModelList(TypedDict):
    """All models."""

    models: list[ModelObject]
    total: int


class Preloaded(TypedDict):
    """What came of a wish to load."""

    model: str
    success: bool
    status: str
    error: NotRequired[str]


class PreloadAnswer(TypedDict):
    """A result for each model, in their order."""

    message: str
    results: list[Preloaded]
    priority: str


class UsageObject(TypedDict):
    """How a model was used."""

    usage_count: int
    total_time: float
    average_time: float
    last_used: str
    priority_score: float


class Score(TypedDict):
    """How much a model is worth loading."""

    priority_score: float


class UsageStats(TypedDict):
    """How models were used, and which are worth loading, the best first."""

    usage_stats: dict[str, UsageObject]
    intelligent_preload_enabled: bool
    preload_recommendations: list[tuple[str, Score]]


class Activity(TypedDict):
    """An idea that was generated."""

    id: str
    category: str
    model_used: str
    created_at: str
    rating: int | None


class ModelStats(TypedDict):
    """Models in figures."""

    total_models: int
    available_models: int
    loaded_models: int
    current_model: str | None


class StreamStats(TypedDict):
    """Streams in figures."""

    active_sessions: int
    total_streaming_requests: int
    average_streaming_time: float


class BatchStats(TypedDict):
    """Batches in figures, by how they ran."""

    total_batch_requests: int
    batch_methods: dict[str, int]
    parallel_processing_enabled: bool


class StudioStats(TypedDict):
    """Ideas, models, streams and batches in figures."""

    total_ideas: int
    categories: dict[str, int]
    average_rating: float
    recent_activity: list[Activity]
    model_stats: ModelStats
    streaming_stats: StreamStats
    batch_stats: BatchStats


class Rated(TypedDict):
    """A rating that was given, and the mean of all."""

    idea_id: str
    rating: int
    average_rating: float


class ErrorObject(TypedDict):
    """What went wrong; `code` is of docs/errors.md."""

    code: str
    message: str
    param: str | None


class ErrorBody(TypedDict):
    """The studio's error."""

    detail: str
    error: ErrorObject
