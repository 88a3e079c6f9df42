"""Control tokens in what was said are text; only those that the template wrote are tokens.

A tokenizer finds `<|im_end|>` wherever it stands in a rendered conversation, so that whoever gets
such a text into a message could end its turn and begin another. Before rendering, what was said is
therefore searched for control tokens, and a sentinel (a code point that Unicode keeps for a
program's own use) goes before and after each of their characters. The template passes sentinels on,
whatever else it does with the words; control tokens without a sentinel in them are its own. The
text is then encoded by a second tokenizer that shares model, normaliser and pre-tokeniser with the
first, and knows each control token by a stand-in that no text holds.

A conversation without control tokens in what was said is encoded as ever; it pays for the search.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import Any

from tokenizers import AddedToken, Tokenizer

from nsedge.errors import InvalidParameter
from nsedge.runtime.text.finding import Edges, Finder, Span

SENTINEL = "\ufdd1"
STAND_IN = "\ufdd2"
ASSISTANT = "assistant"

TemplateTurn = dict[str, Any]
"""A message as templates take it: `role`, and texts, or lists and mappings of them."""
_ASKED: TemplateTurn = {"role": "user", "content": "a"}
_SAID: TemplateTurn = {"role": ASSISTANT, "content": "b"}
PLAIN_TURNS: Sequence[Sequence[TemplateTurn]] = (
    (_ASKED, _SAID, _ASKED),
    ({"role": "system", "content": "c"}, _ASKED),
    (_ASKED, _SAID, {"role": "tool", "content": "d"}),
)
"""What any template renders, and what some refuse."""
_BARRED = re.compile(r"<[|｜].*[|｜]>")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the template renders it."""

    text: str
    literal: tuple[Span, ...] = ()
    """[begin, end) in `text`, in code points: said, so that no control token reaches into it."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids [n], and where in the text each stands, as [begin, end) in code points."""

    ids: list[int]
    offsets: list[Span]


class ControlTokens:
    """The control tokens of one model, and how to tell those of the template. Thread-safe."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: str = "",
        named: Iterable[str | None] = (),
        render: Callable[[Sequence[TemplateTurn]], str] | None = None,
    ) -> None:
        """Take the special tokens, those in `named`, and the marks that `template` names.

        `render` renders a conversation that asks for no answer. A control token that is not special
        and not in what it makes of plain turns, such as `<think>`, stays a token where the
        assistant says it. Without `render`, or where it fails, there is no such token.
        """
        self._tokenizer = tokenizer
        wanted = set(named)
        self._control: dict[str, AddedToken] = {
            token.content: token
            for token in tokenizer.get_added_tokens_decoder().values()
            if token.special or token.content in wanted or _is_mark(token.content, template)
        }
        around = _around_turns(render)
        own = {
            text
            for text, token in self._control.items()
            if around is not None and not (token.special or text in wanted or text in around)
        }
        self._all = Finder(self._control)
        self._foreign = Finder(self._control.keys() - own)
        self._edges = Edges(self._control)
        normalised = any(token.normalized for token in self._control.values())
        self._normalizer = tokenizer.normalizer if normalised else None
        self._second: _SecondTokenizer | None = None
        self._lock = threading.Lock()

    def shield(self, turns: Sequence[TemplateTurn]) -> Sequence[TemplateTurn]:
        """`turns` with sentinels in all that reads like a control token; itself where nothing does.

        Raises:
            InvalidParameter: something does, and sentinels or stand-ins are in the words as well.
        """
        shielded: Sequence[TemplateTurn] = self.shield_all({"messages": turns})["messages"]
        return shielded

    def shield_all(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same for all that a template gets: `messages`, by who says them, and the rest.

        Raises as `shield`.
        """
        turns = variables["messages"]
        shielded = dict(variables)
        said = [self._shield_turn(turn) for turn in turns]
        if not _same(said, turns):
            shielded["messages"] = said
        for name, value in variables.items():
            if name != "messages":
                shielded[name] = self._shield(value, self._all)
        if _same(shielded.values(), variables.values()):
            return variables
        for text in texts_in([*turns, dict(variables)]):
            for reserved in (SENTINEL, STAND_IN):
                if reserved in text:
                    raise InvalidParameter(
                        f"the messages hold control tokens, and U+{ord(reserved):04X},"
                        " which is no character",
                        param="messages",
                    )
        return shielded

    def encode(self, rendered: Rendered) -> list[int]:
        """The ids of a text; nothing is added before or after it."""
        (ids,) = self.encode_batch([rendered])
        return ids

    def encode_batch(self, texts: Sequence[Rendered]) -> list[list[int]]:
        """The ids of each text."""
        plain = [rendered.text for rendered in texts if not rendered.literal]
        # The batch call lets other threads run meanwhile; the single one does not.
        found = iter(self._tokenizer.encode_batch_fast(plain, add_special_tokens=False))
        return [
            self._second_tokenizer().encode(rendered, self._all).ids
            if rendered.literal
            else list(next(found).ids)
            for rendered in texts
        ]

    def encode_with_offsets(self, rendered: Rendered) -> Encoded:
        """The same, and where each token stands."""
        if rendered.literal:
            return self._second_tokenizer().encode(rendered, self._all).placed()
        found = self._tokenizer.encode(rendered.text, add_special_tokens=False)
        return Encoded(list(found.ids), list(found.offsets))

    def _second_tokenizer(self) -> _SecondTokenizer:
        with self._lock:
            if self._second is None:
                self._second = _SecondTokenizer(self._tokenizer, frozenset(self._control))
            return self._second

    def _shield_turn(self, turn: TemplateTurn) -> TemplateTurn:
        own = self._foreign if turn.get("role") == ASSISTANT else self._all
        changed = {}
        for key, value in turn.items():
            finder = self._all if key == "tool_calls" else own
            if key != "role" and (shielded := self._shield(value, finder)) is not value:
                changed[key] = shielded
        return turn | changed if changed else turn

    def _shield(self, value: Any, finder: Finder) -> Any:
        """`value` with sentinels in its texts; `value` itself where there are none to put."""
        if isinstance(value, str):
            return self._shield_text(value, finder)
        if isinstance(value, list):
            items = [self._shield(item, finder) for item in value]
            return value if _same(items, value) else items
        if isinstance(value, dict):
            keys = [self._shield(key, finder) for key in value]
            values = [self._shield(item, finder) for item in value.values()]
            same = _same(keys, value.keys()) and _same(values, value.values())
            return value if same else dict(zip(keys, values, strict=True))
        return value

    def _shield_text(self, text: str, finder: Finder) -> str:
        spans = list(finder.find(text))
        if self._normalizer is not None:
            normal = self._normalizer.normalize_str(text)
            if sum(1 for _ in finder.find(normal)) > len(spans):
                # Which of its characters became the token cannot be told: take them all.
                spans = [(len(text) - len(text.lstrip()), len(text.rstrip()))]
        spans += self._edges.of(text)
        return _marked(text, _joined(sorted(spans))) if spans else text


def unmarked(text: str) -> Rendered:
    """What a template made of shielded turns, without the sentinels."""
    pieces = text.split(SENTINEL)
    places = accumulate(map(len, pieces[:-1]))
    return Rendered("".join(pieces), _joined(((place, place) for place in places), gap=1))


def _joined(spans: Iterable[Span], gap: int = 0) -> tuple[Span, ...]:
    """`spans`, in order of their beginnings, with those that `gap` or less parts as one."""
    joined: list[Span] = []
    for begin, end in spans:
        if joined and begin <= joined[-1][1] + gap:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return tuple(joined)


def _marked(text: str, spans: Iterable[Span]) -> str:
    """`text` with a sentinel before and after each character of `spans`."""
    pieces, at = [], 0
    for begin, end in spans:
        pieces += [text[at:begin], SENTINEL, *(c + SENTINEL for c in text[begin:end])]
        at = end
    return "".join([*pieces, text[at:]])


class _SecondTokenizer:
    """Finds stand-ins where the first tokenizer finds control tokens."""

    def __init__(self, first: Tokenizer, control: frozenset[str]) -> None:
        self._control = control
        self._tokenizer = Tokenizer(first.model)
        for part in ("normalizer", "pre_tokenizer", "post_processor"):
            if (shared := getattr(first, part)) is not None:
                setattr(self._tokenizer, part, shared)
        added = first.get_added_tokens_decoder()
        self._stand_ins = {
            token.content: f"{STAND_IN}{number}{STAND_IN}"
            for number, token in added.items()
            if token.content in control
        }
        known = {
            number: self._stand_ins.get(token.content, token.content)
            for number, token in sorted(added.items())
        }
        # In one go: the library sorts all that it knows after each.
        self._tokenizer.add_tokens(
            [_renamed(added[number], text) for number, text in known.items()]
        )
        self._tokenizer.add_tokens([AddedToken(SENTINEL, normalized=False)])
        self._ids = {
            (text.strip(), self._tokenizer.token_to_id(text)): number
            for number, text in known.items()
        }

    def encode(self, rendered: Rendered, finder: Finder) -> _Reading:
        """What becomes of a text; `finder` finds the control tokens that are not literal."""
        marked = _marked(rendered.text, rendered.literal)
        reading = self._read(list(self._pieces(marked, finder, is_cut=False)))
        if not self._control.isdisjoint(reading.tokens):
            # The vocabulary makes such a token of its letters, too: have it read one by one.
            reading = self._read(list(self._pieces(marked, finder, is_cut=True)))
        return reading

    def _pieces(self, marked: str, finder: Finder, *, is_cut: bool) -> Iterator[tuple[str, int]]:
        """The text to encode, each piece with its length without sentinels and stand-ins."""
        last = 0
        for begin, end in finder.find(marked):
            yield from _said(marked[last:begin], is_cut=is_cut)
            yield self._stand_ins[marked[begin:end]], end - begin
            last = end
        yield from _said(marked[last:], is_cut=is_cut)

    def _read(self, pieces: list[tuple[str, int]]) -> _Reading:
        text = "".join(piece for piece, _ in pieces)
        (found,) = self._tokenizer.encode_batch([text], add_special_tokens=False)
        kept = [token != SENTINEL for token in found.tokens]
        return _Reading(
            tokens=list(compress(found.tokens, kept)),
            ids=[
                # Such a token may come with the blanks that it took.
                self._ids.get((token.strip(), number), number)
                for token, number in compress(zip(found.tokens, found.ids, strict=True), kept)
            ],
            offsets=list(compress(found.offsets, kept)),
            pieces=pieces,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What the second tokenizer made of pieces of text."""

    tokens: list[str]
    ids: list[int]
    offsets: list[Span]
    """In the pieces put together."""
    pieces: list[tuple[str, int]]

    def placed(self) -> Encoded:
        """The same, with places in the text without sentinels and stand-ins."""
        encoded = list(accumulate((len(piece) for piece, _ in self.pieces), initial=0))
        plain = list(accumulate((length for _, length in self.pieces), initial=0))

        def place(position: int) -> int:
            piece = bisect_right(encoded, position) - 1
            return plain[piece] + position - encoded[piece]

        return Encoded(self.ids, [(place(begin), place(end)) for begin, end in self.offsets])


def _said(marked: str, *, is_cut: bool) -> Iterator[tuple[str, int]]:
    for number, piece in enumerate(marked.split(SENTINEL)):
        if number and is_cut:
            yield SENTINEL, 0
        yield piece, len(piece)


def _around_turns(render: Callable[[Sequence[TemplateTurn]], str] | None) -> str | None:
    """Plain turns with the marks that the template puts around them; None where it cannot."""
    rendered = []
    for turns in PLAIN_TURNS:
        try:
            rendered += [] if render is None else [render(turns)]
        except Exception:  # a template is code, may fail in any way, and is told of when it is used
            continue
    return "\n".join(rendered) or None


def _is_mark(token: str, template: str) -> bool:
    """Whether `token` has the form of one, or the template names it or its counterpart."""
    if all(c.isalnum() or c.isspace() or c in "▁_" for c in token):
        return False
    other = token[:1] + (token[2:] if token[1:2] == "/" else f"/{token[1:]}")
    return bool(_BARRED.fullmatch(token)) or token in template or other in template


def _renamed(token: AddedToken, text: str) -> AddedToken:
    return AddedToken(
        text,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=token.special,
    )


def _same(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(new, old, strict=True))


def texts_in(value: Any) -> Iterator[str]:
    """The texts of a value of lists and mappings, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts_in(key)
            yield from texts_in(item)
