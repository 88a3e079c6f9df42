"""What a client sees of a request: any number of `Loading`s, at most one `Started`, what the task
gives, and exactly one terminal event, `Finished` or `Failed`.

Where a model reads text alone, what others made of the pictures and recordings among the messages
is told as `MediaRead`s. Text comes as `Delta`s; what a model thinks and calls, where that was asked
for, as `ReasoningDelta`s and `ToolCallDelta`s; vectors and scores as arrays; `Labels` and
`Fillings` input by input; speech as `Segment`s, of sound that still comes with `Activity` and
`Committed`; what takes many steps tells its `Progress`; pictures come as `Picture`s, after
`Preview`s where these were asked for, and files are announced by `ArtifactPending` and
`ArtifactReady`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from nsedge.api.found import Fillings, Labels, Scores, Vectors
from nsedge.api.imagine import Picture, Preview
from nsedge.api.logprobs import Logprobs
from nsedge.api.models import ModelState
from nsedge.api.spoken import Activity, Committed, Language, Segment
from nsedge.errors import NsedgeError, of_code


class FinishReason(enum.StrEnum):
    """Why a request ended well."""

    STOP = "stop"
    """The model's end of sequence, or a stop string."""
    LENGTH = "length"
    """max_tokens, or the end of the context."""
    TOOL_CALLS = "tool_calls"
    """As STOP; the model called tools."""
    CANCELLED = "cancelled"
    """The client asked, or went away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the task counts: tokens of the prompt and of the output (an end-of-sequence token counts
    as written), and of other tasks seconds of audio, images and steps."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Prompt tokens that did not have to be read, because their KV was there."""
    audio_s: float = 0.0
    images: int = 0
    steps: int = 0
    media_tokens: int = 0
    """Prompt tokens that stand for pictures and sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the time went, in seconds of the daemon's monotonic clock."""

    queue_s: float
    """From admission to the first prefill chunk."""
    prefill_s: float
    """From there to the first token; of a task without tokens, to its end."""
    decode_s: float
    """From the first token to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """The model is not in memory yet. Comes when the load is queued, moves up, and goes on.

    position: loads that come before; 0 is this model's turn. progress: 0 to 1, of reading it.
    """

    request_id: str
    model: str
    state: ModelState
    position: int
    progress: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRead:
    """A picture or recording among the messages has become a text, which stands in its place.

    - place: where it is, as its client calls that, such as messages[2].content[1].
    - media_type: of the medium, such as image/png.
    - task, model: what was asked of which model: caption or transcribe.
    - text: what it made of it, without the template that the prompt has it in.
    - took_s: seconds that this took; 0 where it was known.
    - audio_s: seconds of sound; 0 of a picture.
    - cached: it was known from an earlier request, or an earlier part of this one.
    """

    request_id: str
    place: str
    media_type: str
    task: str
    model: str
    text: str
    took_s: float
    audio_s: float = 0.0
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The input is being read; `prompt_tokens` is its length."""

    request_id: str
    prompt_tokens: int
    queue_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLogprobs:
    """How likely the model found tokens of the prompt, in their order, from token `first` on. Comes
    where asked for, before any text; the first token of all has no log-probability."""

    request_id: str
    first: int
    logprobs: tuple[Logprobs, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of text. `seq` counts deltas of all kinds from 0; `token_ids` are those since the one
    before.

    A piece never ends inside a character, and never holds part of a stop string. `logprobs` are
    those of `token_ids`, one each, where they were asked for. Where there are several choices,
    `choice` tells which it belongs to, and `seq` counts the deltas of each.
    """

    request_id: str
    seq: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = ()
    choice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta:
    """A piece of what the model thinks before it answers; otherwise as `Delta`."""

    request_id: str
    seq: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = ()
    choice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDelta:
    """A piece of a tool call. `index` counts calls from 0.

    The first of a call has `call_id` and `name`, the others None; the `arguments` of all are the
    JSON of the call's, put together. Otherwise as `Delta`.
    """

    request_id: str
    seq: int
    index: int
    call_id: str | None
    name: str | None
    arguments: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = ()
    choice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a task is: `done` of `total`, in `unit` (step, s); total None where nobody knows."""

    request_id: str
    done: float
    total: float | None
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPending:
    """A file of type `media_type` is being made; `artifact_id` names it."""

    request_id: str
    artifact_id: str
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactReady:
    """The file is there: its size in bytes, and its SHA-256 in hexadecimal."""

    request_id: str
    artifact_id: str
    media_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceFinished:
    """One of several choices ended well; the fields are those of `Finished`."""

    request_id: str
    choice: int
    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | None = None
    clipped_max_tokens: int | None = None
    cumulative_logprob: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceFailed:
    """One of several choices broke off; the others go on. The fields are those of `Failed`."""

    request_id: str
    choice: int
    code: str
    message: str
    retryable: bool
    param: str | None = None

    def failed(self) -> Failed:
        """The same as the end of a request."""
        return Failed(
            request_id=self.request_id,
            code=self.code,
            message=self.message,
            retryable=self.retryable,
            param=self.param,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The request ended well. `stop` is the stop string met, None for an end-of-sequence token.

    `cumulative_logprob` is the sum over all tokens that were written, an end of sequence included,
    where log-probabilities were asked for; by `usage.completion_tokens` it gives their mean.

    Of several choices, each has ended by a `ChoiceFinished` or `ChoiceFailed` of its own, unless
    the request was cancelled: `usage` counts the prompt once and what all of them wrote, `reason`
    is that of the first that ended well, and the rest is not told.
    """

    request_id: str
    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | None = None
    clipped_max_tokens: int | None = None
    cumulative_logprob: float | None = None

    @classmethod
    def cancelled(cls, request_id: str) -> Finished:
        """The end of a request that was cancelled before any of its work was done."""
        return cls(
            request_id=request_id,
            reason=FinishReason.CANCELLED,
            usage=Usage(prompt_tokens=0, completion_tokens=0),
            timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The request was refused, or broke off. `figures`: numbers that the message tells, by name."""

    request_id: str | None
    code: str
    message: str
    retryable: bool
    param: str | None = None
    retry_after_s: float | None = None
    figures: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, request_id: str | None, error: NsedgeError) -> Failed:
        """The event that tells `error` to the client of `request_id`."""
        return cls(
            request_id=request_id,
            code=error.code,
            message=error.message,
            retryable=error.retryable,
            param=error.param,
            retry_after_s=error.retry_after_s,
            figures=error.figures,
        )

    def error(self) -> NsedgeError:
        """The error that it tells of, to be raised on the client's side."""
        return of_code(self.code)(
            self.message,
            param=self.param,
            retry_after_s=self.retry_after_s,
            figures=self.figures,
        )


AnyDelta = Delta | ReasoningDelta | ToolCallDelta
"""What a model that writes gives, each with the tokens that it is made of."""
Text = PromptLogprobs | AnyDelta | ChoiceFinished | ChoiceFailed
Speech = Language | Segment | Activity | Committed
Found = Vectors | Scores | Labels | Fillings
Made = Picture | Preview | Progress | ArtifactPending | ArtifactReady
Result = MediaRead | Text | Found | Speech | Made
"""What a task gives on its way."""
Event = Loading | Started | Result | Finished | Failed
Sink = Callable[[Event], None]
"""Takes the events of one request, in order, on the event loop's thread. It never blocks."""


def is_terminal(event: Event) -> bool:
    """Whether nothing follows `event`."""
    return isinstance(event, Finished | Failed)
