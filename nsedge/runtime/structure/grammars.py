"""Constraints to grammars, compiled for one vocabulary. Imports llguidance, so that `structure`
imports it with the first constraint only."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import gbnf_to_lark
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nsedge.api import Constraint, ConstraintKind
from nsedge.errors import InvalidParameter
from nsedge.runtime.structure.guide import Guide, told
from nsedge.runtime.structure.placing import LARGEST, place_of
from nsedge.runtime.structure.vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

KEPT = 32
"""Grammars that stay compiled, the latest used."""
MAX_USES = 256
"""Answers that share what the lexer of a grammar has learnt, before it begins anew: what it learns
takes memory, and is bounded for all of them together."""
LIMITS = LLParserLimits(
    max_items_in_row=2000,
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_lexer_states=20_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
"""Bounds of compiling a grammar and of each step in it: a step of the lexer's fuel takes 70 ns, an
item 50 ns, a state 1 to 2 KiB."""
PLACING_S = 0.3
"""Of a core: what it may take to find where a schema is at fault."""
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|.)", re.DOTALL)
ANY_OBJECT = '{"type": "object"}'
_WHITESPACE = {"whitespace_flexible", "whitespace_pattern"}
_DEFAULTS: JsonCompileOptions = {"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,32}"}
"""Room for indentation, and no more: small models would write nothing else."""


class _Wrapper(TokenizerWrapper):
    """A vocabulary as llguidance asks for one."""

    def __init__(self, vocabulary: Vocabulary, eos_token_id: int) -> None:
        self.is_tokenizer_wrapper = True
        self.tokens = vocabulary.tokens
        self.eos_token_id = eos_token_id
        self.bos_token_id = None
        self.special_token_ids = ()
        self._vocabulary = vocabulary

    def __call__(self, text: str) -> list[int]:
        return self._vocabulary.encode(text)


@dataclass(slots=True)
class _Compiled:
    matcher: LLMatcher
    first: NDArray[np.uint32]
    uses: int = 0

    def retire(self) -> None:
        """Let it be compiled anew: what its answers share may be what one of them failed by."""
        self.uses = MAX_USES


class Grammars:
    """What constraints compile to, the latest kept. For one thread at a time."""

    def __init__(self, tokenizer: Tokenizer, *, size: int, end_ids: Many[int]) -> None:
        """size: rows of the model. end_ids: the tokens that may end an answer.

        Raises:
            InvalidParameter: the tokenizer is not one of bytes.
        """
        vocabulary = Vocabulary(tokenizer, size)
        self._words = -(-size // 32)
        # What llguidance holds must not hold it: the cycle would never be collected.
        self._tokenizer = LLTokenizer(
            _Wrapper(vocabulary, end_ids[0]), eos_token=list(end_ids), n_vocab=size
        )
        ends = np.isin(np.arange(32 * self._words), end_ids)
        self._ends = np.packbits(ends, bitorder="little").view("<u4")
        self._kept: OrderedDict[Constraint, _Compiled] = OrderedDict()

    def guide(self, constraint: Constraint, *, may_end: bool = True) -> Guide:
        """A guide at the beginning of an answer, which ends as soon as it `may_end`, or where
        nothing else can follow.

        Raises:
            InvalidParameter: the constraint cannot be compiled; the message says why, and where.
        """
        found = self._kept.get(constraint)
        if found is None or found.uses >= MAX_USES:
            found = self._kept[constraint] = self._compile(constraint)
        self._kept.move_to_end(constraint)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        found.uses += 1
        ends = None if may_end else self._ends
        return Guide(found.matcher.deep_copy(), found.first, ends=ends, failed=found.retire)

    def _compile(self, constraint: Constraint) -> _Compiled:
        grammar = grammar_of(constraint)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)
        mask = np.zeros(self._words, np.uint32)
        if not matcher.is_error():
            matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if matcher.is_error():
            raise refused(constraint, self._placed(constraint, told(matcher.get_error())))
        if not (mask & ~self._ends).any():
            raise refused(constraint, "allows nothing but an empty answer")
        return _Compiled(matcher, mask)

    def _placed(self, constraint: Constraint, reason: str) -> str:
        """Why a constraint is refused, and where a schema is at fault, if that can be told."""
        if constraint.kind is not ConstraintKind.JSON_SCHEMA or len(constraint.value) > LARGEST:
            return reason
        schema, until_s = json.loads(constraint.value), time.thread_time() + PLACING_S
        if not isinstance(schema, dict):
            return reason
        place = place_of(schema, self._why, enough=lambda: time.thread_time() > until_s)
        return reason if place is None else f"{_without_way(reason)} (at {place})"

    def _why(self, schema: dict[str, Any]) -> str | None:
        try:
            grammar = _json_grammar(json.dumps(schema))
        except (ValueError, RecursionError) as error:
            return told(str(error))
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)
        return _without_way(told(matcher.get_error())) if matcher.is_error() else None


def grammar_of(constraint: Constraint) -> str:
    """A constraint as llguidance takes it.

    Raises:
        InvalidParameter: it is GBNF or a schema that cannot be read; the message says where.
    """
    match constraint.kind:
        case ConstraintKind.JSON_SCHEMA:
            try:
                return _json_grammar(constraint.value)
            except (ValueError, RecursionError) as error:  # nested too deep, for either reader
                raise refused(constraint, told(str(error))) from error
        case ConstraintKind.JSON_OBJECT:
            return _json_grammar(ANY_OBJECT)
        case ConstraintKind.REGEX:
            return str(LLMatcher.grammar_from_regex(constraint.value))
        case ConstraintKind.CHOICE:
            # One lexeme: of as many rules, each would be followed by itself.
            return "start: CHOICE\nCHOICE: " + " | ".join(map(_literal, constraint.choices()))
        case ConstraintKind.LARK:
            return constraint.value
        case ConstraintKind.GBNF:
            try:
                return gbnf_to_lark(_ESCAPE.sub(_spelt, constraint.value))
            except RecursionError as error:
                raise refused(constraint, "is nested too deep") from error
            except Exception as error:  # the converter raises plain Exception
                raise refused(constraint, told(str(error))) from error


def _spelt(found: re.Match[str]) -> str:
    """An escape of GBNF as llguidance's converter understands it: it mistakes those of Unicode."""
    code = int(found[1] or found[2] or "0", 16)
    if not code or 0xD800 <= code < 0xE000 or code > sys.maxunicode:
        return found[0]
    return f"\\x{code:02x}" if code < 0x80 else chr(code)


def refused(constraint: Constraint, why: str) -> InvalidParameter:
    """What a client is told of a constraint that cannot be compiled."""
    return InvalidParameter(f"constraint ({constraint.kind}): {why}", param="constraint")


def _json_grammar(text: str) -> str:
    schema = json.loads(text)
    if schema is True:
        schema, text = {}, "{}"
    options = schema.get("x-guidance") if isinstance(schema, dict) else None
    if schema is False or (isinstance(options, dict) and _WHITESPACE.intersection(options)):
        return f'{{"grammars": [{{"json_schema": {text}}}]}}'
    return str(LLMatcher.grammar_from_json_schema(text, defaults=_DEFAULTS))


def _without_way(reason: str) -> str:
    """Without which definition led to it."""
    return reason.partition(" while processing ")[0]


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
