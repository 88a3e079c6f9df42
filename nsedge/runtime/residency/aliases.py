"""Further names of models: those of the configuration, and above them what was said at run time.

The later word counts: what was said at run time holds over restarts, until the configuration says
something else of that alias than it did then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from nsedge.printable import is_printable
from nsedge.process.state_file import StateFile, encode


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an alias was told to stand for, and what the configuration said of it then."""

    model: str | None
    """None: it was taken away."""
    configured: str | None


class AliasRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file's content: by alias."""

    aliases: dict[str, Said] = {}


class Aliases:
    """Alias to model, kept in a file. Whoever says something must `save` it."""

    def __init__(self, path: Path | None, configured: Mapping[str, str]) -> None:
        """None keeps nothing over restarts. What is kept and could not be said today is dropped."""
        self._file = StateFile(path, kind=AliasRecord, fresh=AliasRecord, what="aliases")
        self._configured = dict(configured)
        kept = self._file.read().aliases
        self._said = {
            alias: said
            for alias, said in kept.items()
            if said.configured == self._configured.get(alias) and is_printable(alias)
        }

    def current(self) -> dict[str, str]:
        """What each alias stands for."""
        spoken = {alias: said.model for alias, said in self._said.items()}
        merged = {**self._configured, **spoken}
        return {alias: model for alias, model in merged.items() if model is not None}

    def say(self, alias: str, model: str | None) -> None:
        """Let it stand for `model` from now on; None takes it away."""
        configured = self._configured.get(alias)
        self._said[alias] = Said(model=model, configured=configured)
        if model == configured:
            del self._said[alias]

    def save(self) -> str | None:
        """Write the file; why that could not be done, or None. A failure is logged once."""
        return self._file.write(encode(AliasRecord(aliases=self._said)))
