"""A model's constraints. llguidance is imported, and a vocabulary read, with the first of them."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence as Many
from typing import Protocol

from tokenizers import Tokenizer

from nsedge.api import Constraint
from nsedge.runtime.structure.guide import Guide


class _Grammars(Protocol):
    def guide(self, constraint: Constraint, *, may_end: bool) -> Guide: ...


class Structure:
    """Makes guides for the answers of one model. Thread-safe; a constraint that is being compiled
    holds up others of its model, and nobody else."""

    def __init__(self, tokenizer: Tokenizer, *, size: int, end_ids: Many[int]) -> None:
        """size: rows of the model. end_ids: the tokens that may end an answer."""
        self._tokenizer = tokenizer
        self._size = size
        self._end_ids = end_ids
        self._lock = threading.Lock()
        self._grammars: _Grammars | None = None

    def guide(self, constraint: Constraint, *, may_end: bool = True) -> Guide:
        """A guide at the beginning of an answer; takes from microseconds to a second. Unless it
        `may_end`, it goes on where anything else than an end can follow.

        Raises:
            InvalidParameter: the constraint cannot be compiled, or the tokenizer is not one of
                bytes.
        """
        with self._lock:
            if self._grammars is None:
                module = importlib.import_module("nsedge.runtime.structure.grammars")
                made: _Grammars = module.Grammars(
                    self._tokenizer, size=self._size, end_ids=self._end_ids
                )
                self._grammars = made
            return self._grammars.guide(constraint, may_end=may_end)
