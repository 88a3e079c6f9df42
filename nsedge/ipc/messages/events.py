"""Events, a message each: the fields of `nsedge.api`'s, with `id` for `request_id`."""

from __future__ import annotations

from msgspec import field

from nsedge.api import (
    Filling,
    FinishReason,
    Label,
    Logprobs,
    ModelState,
    PictureRecord,
    Timings,
    Usage,
    Word,
)
from nsedge.ipc.messages.base import Wire


class Loading(Wire, frozen=True, kw_only=True, tag="loading"):
    """The request waits for its model; since 1.2."""

    id: str
    model: str
    state: ModelState
    position: int
    progress: float


class MediaRead(Wire, frozen=True, kw_only=True, tag="media_read"):
    """The text that was made of a picture or recording among the messages; since 1.6."""

    id: str
    place: str
    media_type: str
    task: str
    model: str
    text: str
    took_s: float
    audio_s: float = 0.0
    cached: bool = False


class Started(Wire, frozen=True, kw_only=True, tag="started"):
    """The prompt is being read."""

    id: str
    prompt_tokens: int
    queue_s: float


class PromptLogprobs(Wire, frozen=True, kw_only=True, tag="prompt_logprobs"):
    """How likely tokens of the prompt were; since 1.4."""

    id: str
    first: int
    logprobs: tuple[Logprobs, ...]


class Delta(Wire, frozen=True, kw_only=True, tag="delta"):
    """A piece of text; `logprobs` and `choice` since 1.4."""

    id: str
    seq: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = ()
    choice: int = 0


class ReasoningDelta(Wire, frozen=True, kw_only=True, tag="reasoning_delta"):
    """A piece of what the model thinks; since 1.4."""

    id: str
    seq: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = ()
    choice: int = 0


class ToolCallDelta(Wire, frozen=True, kw_only=True, tag="tool_call_delta"):
    """A piece of a tool call; since 1.4."""

    id: str
    seq: int
    index: int
    call_id: str | None = None
    name: str | None = None
    arguments: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = ()
    choice: int = 0


class Vectors(Wire, frozen=True, kw_only=True, tag="vectors"):
    """Embeddings of some inputs; since 1.3."""

    id: str
    first: int
    shape: tuple[int, int]
    data: bytes


class Scores(Wire, frozen=True, kw_only=True, tag="scores"):
    """Scores of some inputs; since 1.3."""

    id: str
    first: int
    shape: tuple[int, int]
    data: bytes


class Language(Wire, frozen=True, kw_only=True, tag="language"):
    """The language of a recording; since 1.5."""

    id: str
    language: str
    probability: float


class Labels(Wire, frozen=True, kw_only=True, tag="labels"):
    """Labels of some inputs; since 1.5."""

    id: str
    first: int
    labels: tuple[tuple[Label, ...], ...]


class Fillings(Wire, frozen=True, kw_only=True, tag="fillings"):
    """Tokens for the masks of some inputs; since 1.5."""

    id: str
    first: int
    masks: tuple[tuple[tuple[Filling, ...], ...], ...]


class Segment(Wire, frozen=True, kw_only=True, tag="segment"):
    """A stretch of speech; since 1.3, what follows `final` since 1.5, and `stable` since 1.6."""

    id: str
    seq: int
    start_s: float
    end_s: float
    text: str
    final: bool = True
    tokens: tuple[int, ...] = ()
    seek_s: float = 0.0
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0
    words: tuple[Word, ...] = ()
    stable: int = 0


class Activity(Wire, frozen=True, kw_only=True, tag="activity"):
    """Somebody begins to speak, or has ended; since 1.6."""

    id: str
    speaking: bool
    at_s: float


class Committed(Wire, frozen=True, kw_only=True, tag="committed"):
    """All that was said until then is told, and final; since 1.6."""

    id: str
    at_s: float


class Picture(Wire, frozen=True, kw_only=True, tag="picture"):
    """A picture is done; since 1.6."""

    id: str
    index: int
    media_type: str
    data: bytes
    record: PictureRecord


class Preview(Wire, frozen=True, kw_only=True, tag="preview"):
    """What a picture would be; since 1.6."""

    id: str
    index: int
    step: int
    media_type: str
    data: bytes


class Progress(Wire, frozen=True, kw_only=True, tag="progress"):
    """How far the task is; since 1.3."""

    id: str
    done: float
    total: float | None
    unit: str


class ArtifactPending(Wire, frozen=True, kw_only=True, tag="artifact_pending"):
    """A file is being made; since 1.3."""

    id: str
    artifact_id: str
    media_type: str


class ArtifactReady(Wire, frozen=True, kw_only=True, tag="artifact_ready"):
    """A file is there; since 1.3."""

    id: str
    artifact_id: str
    media_type: str
    bytes: int
    sha256: str


class ChoiceFinished(Wire, frozen=True, kw_only=True, tag="choice_finished"):
    """One of several choices ended well; since 1.4."""

    id: str
    choice: int
    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | None = None
    clipped_max_tokens: int | None = None
    cumulative_logprob: float | None = None


class ChoiceFailed(Wire, frozen=True, kw_only=True, tag="choice_failed"):
    """One of several choices broke off; since 1.4."""

    id: str
    choice: int
    code: str
    message: str
    retryable: bool
    param: str | None = None


class Finished(Wire, frozen=True, kw_only=True, tag="finished"):
    """The request ended well; `cumulative_logprob` since 1.4."""

    id: str
    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | None = None
    clipped_max_tokens: int | None = None
    cumulative_logprob: float | None = None


class Failed(Wire, frozen=True, kw_only=True, tag="failed"):
    """A request was refused or broke off; without `id`, a message was."""

    id: str | None = None
    code: str
    message: str
    retryable: bool
    param: str | None = None
    retry_after_s: float | None = None
    figures: dict[str, int] = field(default_factory=dict)
