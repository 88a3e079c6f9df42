"""What a request can ask for: a frozen type a task, with its input and its options.

A kind of model does some of these; `ModelInfo.tasks` tells which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nsedge.api.bounds import MAX_PROMPT_CHARS, within
from nsedge.api.constraint import Constraint
from nsedge.api.imagine import Imagine
from nsedge.api.inputs import MAX_TOKEN_ID, Tokens, check_count, check_media
from nsedge.api.labels import Classify, Fill, Score
from nsedge.api.languages import LANGUAGES
from nsedge.api.listen import Listen
from nsedge.api.media import Media
from nsedge.api.messages import Message, Role
from nsedge.api.sampling import MAX_BEAMS, Sampling
from nsedge.api.scheduling import SchedulingFields
from nsedge.api.tools import Tool, ToolChoice, check_json, check_tools
from nsedge.errors import InvalidParameter

Input = str | Tokens | Media
"""What a vector is made of."""
MAX_DIMENSIONS = 2**20
MAX_FILES = 1024
"""That are shown beside a gap."""
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""How hard a model can be asked to think."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFile:
    """A file that is shown beside a text with a gap."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Continue a text as it stands: no template is applied.

    - suffix: what follows the gap that is to be filled, for models that were trained to do that;
      None where there is no gap. extra_files: what is shown before it, with a suffix only.
    - token_ids: in the place of a text, its tokens, all of them: nothing is put before them.
    """

    name: ClassVar[str] = "generate"

    text: str = ""
    suffix: str | None = None
    extra_files: tuple[ExtraFile, ...] = ()
    token_ids: Tokens | None = None
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None

    def check(self) -> None:
        """Raises InvalidParameter for values out of range, or that contradict each other."""
        self.sampling.check()
        if self.constraint is not None:
            self.constraint.check()
        if self.extra_files and self.suffix is None:
            raise InvalidParameter(
                "extra_files stand beside a gap, and there is no suffix", param="extra_files"
            )
        within(
            "the number of extra files", len(self.extra_files), 0, MAX_FILES, param="extra_files"
        )
        ids = self.token_ids
        if ids is None:
            return
        if self.text or self.suffix is not None:
            raise InvalidParameter("a prompt is a text or token_ids, not both", param="token_ids")
        if ids and not (min(ids) >= 0 and max(ids) <= MAX_TOKEN_ID):
            raise InvalidParameter(f"token_ids are 0 to {MAX_TOKEN_ID}", param="token_ids")


class ChatFields(SchedulingFields, total=False):
    """What a chat can be asked for with beside its messages, as keyword arguments."""

    tools: Sequence[Tool]
    tool_choice: ToolChoice
    tool_name: str | None
    parallel_tool_calls: bool | None
    documents: Sequence[dict[str, Any]]
    template_arguments: dict[str, Any]
    reasoning_effort: str | None
    add_generation_prompt: bool
    continue_final_message: bool
    split_reasoning: bool
    constraint: Constraint | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Give the assistant's next turn in a conversation, which the model's template renders.

    - tools: what the model may call, as far as `tool_choice` lets it. tool_name: with REQUIRED,
      the one to be called.
    - parallel_tool_calls: False ends the answer with its first call; None does where a tool is
      required, since small models find no end there.
    - documents: what the answer is to stand on, where the template has a place for them: maps,
      `title` and `text` as a rule.
    - template_arguments: further variables of the template, such as `enable_thinking`.
    - reasoning_effort: how hard the model is to think, one of EFFORTS, where its template has a
      place for that; another refuses it.
    - add_generation_prompt: write what begins the assistant's turn.
    - continue_final_message: go on with the last message, which is the assistant's, instead of
      beginning another.
    - split_reasoning: what the model thinks comes as events of its own, without its marks.
    - constraint: what the answer must look like.
    """

    name: ClassVar[str] = "chat"

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
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

    @property
    def has_one_call(self) -> bool:
        """Whether the first call is the last."""
        if self.parallel_tool_calls is None:
            return self.tool_choice is ToolChoice.REQUIRED
        return not self.parallel_tool_calls or self.tool_name is not None

    @property
    def usable_tools(self) -> tuple[Tool, ...]:
        """The tools that the model is told of."""
        return () if self.tool_choice is ToolChoice.NONE else self.tools

    def check(self) -> None:
        """Raises InvalidParameter for values out of range, or that contradict each other."""
        self.sampling.check()
        if self.constraint is not None:
            self.constraint.check()
        for number, message in enumerate(self.messages):
            message.check(f"messages[{number}]")
        check_tools(self.tools)
        check_json(self.documents, "documents", param="documents")
        check_json(self.template_arguments, "template_arguments", param="template_arguments")
        if self.reasoning_effort not in (None, *EFFORTS):
            raise InvalidParameter(
                f"reasoning_effort must be one of {', '.join(EFFORTS)}, not"
                f" {self.reasoning_effort[:64]!a}",
                param="reasoning_effort",
            )
        self._check_choice()
        if self.continue_final_message and self.messages:
            last = self.messages[-1]
            if last.role is not Role.ASSISTANT or last.tool_calls or not last.text:
                raise InvalidParameter(
                    "continue_final_message wants a last message that is the assistant's, with"
                    " text, and without tool calls",
                    param="continue_final_message",
                )

    def _check_choice(self) -> None:
        if self.tool_choice is ToolChoice.REQUIRED and not self.tools:
            raise InvalidParameter(
                "tool_choice requires a tool, and there are none", param="tool_choice"
            )
        if self.tool_name is None:
            return
        if self.tool_choice is not ToolChoice.REQUIRED:
            raise InvalidParameter(
                "tool_choice names a tool, but does not require it", param="tool_choice"
            )
        if self.tool_name not in {tool.name for tool in self.tools}:
            raise InvalidParameter(
                f"tool_choice requires {self.tool_name!a}, which is none of the tools",
                param="tool_choice",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    """Give a vector for each of `inputs`: texts, token ids, or media.

    - dimensions: numbers of each vector; fewer than the model's are its first ones, brought to
      length 1 again. None is all.
    - truncate: an input longer than the model reads is cut off at its end instead of refused.
    """

    name: ClassVar[str] = "embed"

    inputs: tuple[Input, ...]
    dimensions: int | None = None
    truncate: bool = False

    def check(self) -> None:
        """Raises InvalidParameter for no inputs, too many, or impossible dimensions."""
        check_count(len(self.inputs))
        check_media(self.inputs)
        within("dimensions", self.dimensions, 1, MAX_DIMENSIONS)
        for number, one in enumerate(self.inputs):
            if isinstance(one, Media):
                continue
            if not one:
                raise InvalidParameter(f"input {number} is empty", param="inputs")
            if not isinstance(one, str) and not (min(one) >= 0 and max(one) <= MAX_TOKEN_ID):
                wrong = f"input {number} has token ids that are not 0 to {MAX_TOKEN_ID}"
                raise InvalidParameter(wrong, param="inputs")


TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Those that OpenAI's Whisper tries, one after the other."""


def ladder(first: float) -> tuple[float, ...]:
    """The temperatures from `first` on, 0.2 apart, up to 1; a higher one alone."""
    rungs = max(1, int((1.0 - first) / 0.2 + 1e-6) + 1)
    return tuple(round(first + 0.2 * rung, 6) for rung in range(rungs))


class TranscribeFields(SchedulingFields, total=False):
    """What a transcript can be asked for with beside its recording, as keyword arguments."""

    language: str | None
    translate: bool
    prompt: str
    temperatures: tuple[float, ...]
    best_of: int
    beams: int
    patience: float
    seed: int | None
    word_timestamps: bool
    condition_on_previous: bool
    vad: bool | None
    max_compression_ratio: float | None
    min_logprob: float | None
    max_no_speech_prob: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcribe:
    """Write what is said in a recording, as segments with times.

    - language: of what is said, by its code such as `en`; None has it detected.
    - translate: write it in English, whatever it is said in.
    - prompt: a text that the recording continues, or words as they are to be spelt.
    - temperatures: tried one after the other, as long as what is written is doubtful; at 0 the
      likeliest is taken. best_of: how often it is written at the others, of which the likeliest
      counts. seed: of the draws; None is any.
    - beams: above 1, at temperature 0 the likeliest text is found by beam search, of which so many
      are followed at a time. patience: it ends with beams * patience texts.
    - word_timestamps: when each word was said, too.
    - condition_on_previous: what was said before is a prompt for what follows.
    - vad: leave out what nobody speaks in, where the model has a voice detector; None does for
      recordings of more than one window.
    - max_compression_ratio, min_logprob: beyond these what is written is doubtful.
      max_no_speech_prob: above it, and where what is written is doubtful, nothing was said. None
      judges nothing by that.
    """

    name: ClassVar[str] = "transcribe"

    media: Media
    language: str | None = None
    translate: bool = False
    prompt: str = ""
    temperatures: tuple[float, ...] = TEMPERATURES
    best_of: int = 5
    beams: int = 1
    patience: float = 1.0
    seed: int | None = None
    word_timestamps: bool = False
    condition_on_previous: bool = True
    vad: bool | None = None
    max_compression_ratio: float | None = 2.4
    min_logprob: float | None = -1.0
    max_no_speech_prob: float | None = 0.6

    def check(self) -> None:
        """Raises InvalidParameter for values out of range, and media that are no sound."""
        self.media.check()
        kind = self.media.kind
        if kind not in ("audio", "video", "application"):
            raise InvalidParameter(f"{self.media.type} is no sound", param="media")
        if self.language is not None and self.language not in LANGUAGES:
            raise InvalidParameter(
                f"language must be a code such as en, not {self.language!a}", param="language"
            )
        if not 1 <= len(self.temperatures) <= 16:
            raise InvalidParameter("temperatures are 1 to 16 numbers", param="temperatures")
        for temperature in self.temperatures:
            within("temperature", temperature, 0.0, 2.0, param="temperatures")
        within("best_of", self.best_of, 1, 16)
        within("beams", self.beams, 1, MAX_BEAMS)
        within("patience", self.patience, 0.0, 10.0, exclusive_low=True)
        within("seed", self.seed, 0, 2**64 - 1)
        within("the prompt's length", len(self.prompt), 0, MAX_PROMPT_CHARS, param="prompt")
        within("max_compression_ratio", self.max_compression_ratio, 0.0, 1e6)
        within("min_logprob", self.min_logprob, -1e6, 0.0)
        within("max_no_speech_prob", self.max_no_speech_prob, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """Write what is to be seen in a picture.

    - prompt: a text that the caption goes on from, and which is not told again.
    - constraint: what the rest must look like.
    """

    name: ClassVar[str] = "caption"

    media: Media
    prompt: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None

    def check(self) -> None:
        """Raises InvalidParameter for values out of range, and media that are no picture."""
        self.media.check()
        if self.media.kind != "image":
            raise InvalidParameter(f"{self.media.type} is no picture", param="media")
        within("the prompt's length", len(self.prompt), 0, MAX_PROMPT_CHARS, param="prompt")
        self.sampling.check()
        if self.constraint is not None:
            self.constraint.check()


Task = Generate | Chat | Embed | Classify | Fill | Score | Transcribe | Caption | Listen | Imagine
"""What a request asks for."""
