"""The types of OpenAI's answers."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from nsedge.web.logprobs import TokenObject
from nsedge.web.media_read import MediaTold
from nsedge.web.usage import Clipped, Usage


class FunctionObject(TypedDict):
    """What a call names, and its arguments as JSON."""

    name: str
    arguments: str


class CallObject(TypedDict):
    """A call of a tool."""

    id: str
    type: str
    function: FunctionObject


class MessageObject(TypedDict):
    """What the assistant said, thought and called; `content` is null where it only called."""

    role: str
    content: str | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[CallObject]]


class ChatToken(TokenObject):
    """A token, and the likeliest in its place."""

    top_logprobs: list[TokenObject]


class ChatLogprobs(TypedDict):
    """How likely the tokens of an answer were."""

    content: list[ChatToken]
    refusal: None


class RankedToken(TypedDict):
    """A token of the prompt, as vLLM tells it; rank 1 is the likeliest."""

    logprob: float | None
    rank: int | None
    decoded_token: str


PromptLogprobs = list[dict[str, RankedToken] | None]
"""A map by token id for each token of the prompt; null for the first."""


class ChatChoice(Clipped):
    """One answer to a chat."""

    index: int
    message: MessageObject
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(MediaTold):
    """The answer of `/v1/chat/completions`. created: seconds since the Unix epoch."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    prompt_logprobs: NotRequired[PromptLogprobs]
    usage: Usage


class TextLogprobs(TypedDict):
    """How likely the tokens of a text were, and where each begins: code points."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Clipped):
    """One continuation of a prompt."""

    text: str
    index: int
    logprobs: TextLogprobs | None
    finish_reason: str
    prompt_logprobs: NotRequired[PromptLogprobs]


class TextCompletion(TypedDict):
    """The answer of `/v1/completions`. created: seconds since the Unix epoch."""

    id: str
    object: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class ModelObject(TypedDict):
    """A model; what stands after `owned_by` is ours."""

    id: str
    object: str
    created: int
    owned_by: str
    state: str
    context_tokens: int
    provider: str | None
    variant: str | None
    aliases: tuple[str, ...]
    parent: str | None


class ModelPage(TypedDict):
    """All models."""

    object: str
    data: list[ModelObject]


class EmbeddingObject(TypedDict):
    """A vector, as numbers or as float32, little-endian, in base64."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingPage(TypedDict):
    """A vector for each input, in their order."""

    object: str
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


class ImageObject(TypedDict):
    """A picture. seed: of its noise; not OpenAI's."""

    b64_json: str
    seed: int


class ImagesAnswer(TypedDict):
    """Pictures of a prompt, of one size."""

    created: int
    data: list[ImageObject]
    output_format: str
    size: str


class TemplateAnswer(TypedDict):
    """The prompt that a chat is read as."""

    prompt: str


class SegmentObject(TypedDict):
    """What was said without a break. start, end: in seconds; seek: in hundredths of one."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class WordObject(TypedDict):
    """A word, and when it was said, in seconds."""

    word: str
    start: float
    end: float


class HeardSeconds(TypedDict):
    """How much sound was heard."""

    type: str
    seconds: float


class Verbose(TypedDict, total=False):
    """What verbose_json tells beside the text. duration: in seconds."""

    task: str
    language: str
    duration: float
    segments: list[SegmentObject]
    words: list[WordObject]


class TranscriptObject(Verbose):
    """What is said in a recording."""

    text: str
    usage: HeardSeconds


class ErrorObject(TypedDict):
    """What went wrong. param: the field at fault. code: OpenAI's, or else of docs/errors.md."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """OpenAI's error object."""

    error: ErrorObject
