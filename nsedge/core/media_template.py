"""How what was made of a picture or a recording stands in a prompt."""

from __future__ import annotations

import string
from dataclasses import dataclass

from nsedge.errors import ConfigInvalid

MAX_CHARS = 4096


@dataclass(frozen=True, slots=True)
class MediaTemplate:
    """A text with {n}, the number of the medium among those of its kind, from 1 on, and a place for
    what was made of it, by the name `content`. Two braces are one that is meant."""

    text: str
    content: str

    def check(self, key: str) -> None:
        """Refuse a template that has no place for what was made of a medium, or for something else.

        Raises:
            ConfigInvalid: naming the setting `key`, and what is wrong.
        """
        try:
            fields = [
                field for field in string.Formatter().parse(self.text) if field[1] is not None
            ]
        except ValueError as error:
            raise ConfigInvalid(f"{key}: {error}") from error
        for _, name, form, conversion in fields:
            if name not in ("n", self.content) or form or conversion:
                said = f"{name}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
                raise ConfigInvalid(
                    f"{key}: {{{said[:64]}}} is no placeholder; there are {{n}} and"
                    f" {{{self.content}}}"
                )
        if self.content not in {name for _, name, _, _ in fields}:
            raise ConfigInvalid(f"{key} has no {{{self.content}}} in it")
        if len(self.text) > MAX_CHARS:
            raise ConfigInvalid(f"{key} has {len(self.text)} characters, more than {MAX_CHARS}")

    def filled(self, n: int, said: str) -> str:
        """What stands in the prompt."""
        return self.text.format(n=n, **{self.content: said})
