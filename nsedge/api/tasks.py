"""What a request can ask for: a frozen type a task, with its input and its options.

A kind of model does some of these; `ModelInfo.tasks` tells which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from nsedge.api.messages import Message
from nsedge.api.sampling import Sampling, within
from nsedge.errors import InvalidParameter

MAX_INPUTS = 2048
"""Texts that one request may have embedded."""
MAX_TOKEN_ID = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Continue a text as it stands: no template is applied."""

    name: ClassVar[str] = "generate"

    text: str
    sampling: Sampling = field(default_factory=Sampling)

    def check(self) -> None:
        """Raises InvalidParameter for values out of range."""
        self.sampling.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Give the assistant's next turn in a conversation, which the model's template renders."""

    name: ClassVar[str] = "chat"

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)

    def check(self) -> None:
        """Raises InvalidParameter for values out of range."""
        self.sampling.check()
        for message in self.messages:
            for media in message.media:
                media.check()


Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    """Give a vector for each of `inputs`, texts or token ids.

    - dimensions: numbers of each vector; fewer than the model's are its first ones, brought to
      length 1 again. None is all.
    - truncate: an input longer than the model reads is cut off at its end instead of refused.
    """

    name: ClassVar[str] = "embed"

    inputs: tuple[str | Tokens, ...]
    dimensions: int | None = None
    truncate: bool = False

    def check(self) -> None:
        """Raises InvalidParameter for no inputs, too many, or impossible dimensions."""
        within("the number of inputs", len(self.inputs), 1, MAX_INPUTS, param="inputs")
        within("dimensions", self.dimensions, 1, 2**20)
        for number, text in enumerate(self.inputs):
            if not text:
                raise InvalidParameter(f"input {number} is empty", param="inputs")
            if not isinstance(text, str) and not (min(text) >= 0 and max(text) <= MAX_TOKEN_ID):
                wrong = f"input {number} has token ids that are not 0 to {MAX_TOKEN_ID}"
                raise InvalidParameter(wrong, param="inputs")


Task = Generate | Chat | Embed
"""What a request asks for."""
