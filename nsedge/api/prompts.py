"""What clients may ask of prompts and tokens without having anything written, and what is known of
a model beside where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from nsedge.api.inputs import MAX_TOKEN_ID
from nsedge.api.tasks import Chat, Generate
from nsedge.errors import InvalidParameter

MAX_DETOKENIZED = 1_000_000
"""Tokens that may be made text at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptQuestion:
    """Asks how `model` would read the prompt of `task`.

    - add_special: put the tokens before a text that the model's prompts begin with; a chat has
      what its template writes.
    - parse_special: the names of special tokens in a text are these tokens; else they are text.
    - with_pieces: tell of each token what it adds to a text.
    """

    model: str
    task: Generate | Chat
    add_special: bool = True
    parse_special: bool = True
    with_pieces: bool = False

    def check(self) -> None:
        """Raises InvalidParameter for values out of range."""
        self.task.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReading:
    """A prompt as the model reads it: of a chat, `text` is what its template makes of it.

    pieces: where they were asked for, what each token adds to a text, in UTF-8, be it half a
    character; the name of a special one.
    """

    text: str
    token_ids: tuple[int, ...]
    pieces: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What is known of a model from its package, in memory or not.

    - bytes: of all its files; sha256: of its manifest, which has the hashes of all others.
    - schemes: how the weights of its variants are stored.
    - chat_template: None where it has none, and of an adapter, which has its base's.
    - defaults: of sampling, where a request says nothing.
    """

    name: str
    kind: str
    architecture: str
    parameters: int
    source: str
    licence: str
    bytes: int
    sha256: str
    context_tokens: int
    vocab_size: int
    schemes: tuple[str, ...] = ()
    bos_token: str | None = None
    eos_token: str | None = None
    chat_template: str | None = None
    defaults: dict[str, float] = field(default_factory=dict)


def check_tokens(token_ids: tuple[int, ...]) -> None:
    """Refuse what cannot be token ids.

    Raises:
        InvalidParameter: too many, or one out of range.
    """
    if len(token_ids) > MAX_DETOKENIZED:
        raise InvalidParameter(
            f"{len(token_ids)} tokens are beyond the limit of {MAX_DETOKENIZED}", param="tokens"
        )
    if token_ids and not (min(token_ids) >= 0 and max(token_ids) <= MAX_TOKEN_ID):
        raise InvalidParameter(f"token ids are 0 to {MAX_TOKEN_ID}", param="tokens")
