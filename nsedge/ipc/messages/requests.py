"""Requests for tasks, a message each, and the messages about one on its way."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from nsedge.api import (
    Activation,
    Aggregation,
    Constraint,
    ExtraFile,
    Mark,
    Priority,
    Role,
    Sampling,
    SoundForm,
    Tool,
    ToolCall,
    ToolChoice,
)
from nsedge.api.imagine import STRENGTH
from nsedge.api.tasks import TEMPERATURES
from nsedge.ipc.messages.base import (
    ByteCount,
    Id,
    Label,
    Name,
    SessionKey,
    Sha256,
    TokenId,
    Wire,
)


class TextPart(Wire, frozen=True, kw_only=True, tag="text"):
    """A piece of text among the parts of a message."""

    text: str


class MediaPart(Wire, frozen=True, kw_only=True, tag="media"):
    """A picture, recording or film among the parts of a message or the inputs of a task: its bytes,
    or the hash of those that were sent before; `shape` and `dtype` since 1.5, `place`, `fps` and
    `frames` since 1.6."""

    media_type: Label
    data: bytes | None = None
    sha256: Sha256 | None = None
    shape: tuple[int, ...] = ()
    dtype: Label = ""
    place: Label = ""
    fps: float | None = None
    frames: int | None = None


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of a conversation."""

    role: Role
    content: str | tuple[TextPart | MediaPart, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None


class Asked(Wire, frozen=True, kw_only=True):
    """The fields of every task's request: `nsedge.api.Scheduling`, flat, after three of its own."""

    id: Id
    model: Name
    credit: ByteCount | None = None
    priority: Priority = Priority.NORMAL
    deadline_s: float | None = None
    keep_alive_s: float | None = None
    traceparent: Label | None = None


class Generate(Asked, frozen=True, kw_only=True, tag="generate"):
    """Asks for the continuation of a text, which may come as tokens, or, with a suffix, for what
    stands before that."""

    text: str
    suffix: str | None = None
    extra_files: tuple[ExtraFile, ...] = ()
    token_ids: tuple[TokenId, ...] | None = None
    sampling: Sampling = Sampling()
    constraint: Constraint | None = None


class Chat(Asked, frozen=True, kw_only=True, tag="chat"):
    """Asks for the next turn of a conversation."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice.AUTO
    tool_name: str | None = None
    parallel_tool_calls: bool | None = None
    documents: tuple[dict[str, Any], ...] = ()
    template_arguments: dict[str, Any] = field(default_factory=dict)
    reasoning_effort: str | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    split_reasoning: bool = False
    constraint: Constraint | None = None


class Embed(Asked, frozen=True, kw_only=True, tag="embed"):
    """Asks for a vector of each input; since 1.3, of media since 1.5."""

    inputs: tuple[str | tuple[TokenId, ...] | MediaPart, ...]
    dimensions: int | None = None
    truncate: bool = False


class Transcribe(Asked, frozen=True, kw_only=True, tag="transcribe"):
    """Asks for what is said in a recording; since 1.5."""

    media: MediaPart
    language: Label | None = None
    translate: bool = False
    prompt: str = ""
    temperatures: tuple[float, ...] = TEMPERATURES
    best_of: int = 5
    seed: int | None = None
    word_timestamps: bool = False
    condition_on_previous: bool = True
    vad: bool | None = None
    max_compression_ratio: float | None = 2.4
    min_logprob: float | None = -1.0
    max_no_speech_prob: float | None = 0.6
    beams: int = 1
    patience: float = 1.0


class Caption(Asked, frozen=True, kw_only=True, tag="caption"):
    """Asks for what is to be seen in a picture; since 1.6."""

    media: MediaPart
    prompt: str = ""
    sampling: Sampling = Sampling()
    constraint: Constraint | None = None


class Classify(Asked, frozen=True, kw_only=True, tag="classify"):
    """Asks for labels of each input, or of the spans in it; since 1.5."""

    inputs: tuple[str | tuple[str, str] | MediaPart, ...]
    top_k: int | None = None
    activation: Activation | None = None
    aggregation: Aggregation | None = None
    truncate: bool = False
    labels: tuple[str, ...] = ()
    prompt: str | None = None


class Fill(Asked, frozen=True, kw_only=True, tag="fill"):
    """Asks for tokens that fit the masks in each input; since 1.5."""

    inputs: tuple[str, ...]
    top_k: int = 5


class Score(Asked, frozen=True, kw_only=True, tag="score"):
    """Asks how well each document answers a query; since 1.5."""

    query: str
    documents: tuple[str, ...]
    truncate: bool = False


class Listen(Asked, frozen=True, kw_only=True, tag="listen"):
    """Asks for what is said in sound that comes, by `audio`; since 1.6."""

    form: SoundForm = SoundForm.S16LE
    rate: int = 16_000
    channels: int = 1
    language: Label | None = None
    translate: bool = False
    prompt: str = ""
    word_timestamps: bool = False
    condition_on_previous: bool = True
    partials: bool = True
    step_s: float = 0.6
    vad: bool | None = None
    threshold: float = 0.5
    silence_s: float = 0.6
    padding_s: float = 0.3
    idle_s: float = 60.0


class Imagine(Asked, frozen=True, kw_only=True, tag="imagine"):
    """Asks for pictures of a prompt; since 1.6."""

    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    guidance_rescale: float = 0.0
    scheduler: Label | None = None
    seed: int | None = None
    count: int = 1
    image: MediaPart | None = None
    strength: float = STRENGTH
    mask: MediaPart | None = None
    preview_every: int = 0


class Audio(Wire, frozen=True, kw_only=True, tag="audio"):
    """Sound for a `listen`, and what is to be done then; since 1.6."""

    id: Id
    data: bytes = b""
    then: Mark | None = None


class Credit(Wire, frozen=True, kw_only=True, tag="credit"):
    """Grants a request more bytes; from the daemon, an upload, or the sound of a `listen`."""

    id: Id
    bytes: ByteCount


class MediaPut(Wire, frozen=True, kw_only=True, tag="media_put"):
    """A piece of media that parts of messages will name by their hash; since 1.3."""

    id: Id
    sha256: Sha256
    size: ByteCount
    offset: ByteCount
    data: bytes


class MediaReady(Wire, frozen=True, kw_only=True, tag="media_ready"):
    """The media are there, whole; since 1.3."""

    id: str
    sha256: str


class Cancel(Wire, frozen=True, kw_only=True, tag="cancel"):
    """Ends a request; legal on both sockets, and harmless where the request is unknown."""

    session: SessionKey
    id: Id
