"""A conversation as the base model's template renders it, and where in it the assistant speaks.

A turn of the assistant begins where the prompt before it ends, which is found by rendering that
prompt, or where the template's own `{% generation %}` says so (Hugging Face's mark for training).
It ends with the special token that follows the words: what the model is to say, to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from exporters.errors import Refused
from exporters.finetune.examples import Turn
from exporters.finetune.shapes import ASSISTANT, USER, BadRow, Conversation
from exporters.model.texts import TextReader
from nsedge.api import MediaPart
from nsedge.errors import InvalidParameter, InvalidRequest
from nsedge.runtime.text.control import SENTINEL, Rendered, TemplateTurn, unmarked
from nsedge.runtime.text.parts import PLACE, parted, takes_pictures, wants_parts
from nsedge.runtime.text.sight import Sight, with_media
from nsedge.runtime.text.template import template_environment

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% if add_generation_prompt or not loop.last %}{{ '\\n\\n' }}{% endif %}{% endfor %}"
)
"""For a base without a template: paragraphs, with the end-of-sequence token after an answer."""
MARK = "\ufdd0"
"""Unicode keeps this code point for a program's own use: it is in no text."""
PROBE = Conversation(
    (
        Turn(USER, "How many legs has a spider?"),
        Turn(ASSISTANT, "Eight legs."),
        Turn(USER, "And an ant?"),
        Turn(ASSISTANT, "Six of them."),
    )
)

Span = tuple[int, int]


class Renderer:
    """Renders conversations for one base model, as the daemon will render its prompts."""

    def __init__(self, reader: TextReader, sight: Sight | None = None) -> None:
        """Try the template on two questions and answers. sight: how pictures stand in the prompts
        of a base that sees.

        Raises:
            Refused: it is broken, or does not let the assistant's words be found.
        """
        if reader.template is None:
            bos = "{{ bos_token }}" if reader.add_bos else ""
            reader = replace(reader, template=bos + PLAIN_TEMPLATE)
        self._variables = {"tools": None, "documents": None, **reader.special}
        self._environment = template_environment()
        self._marking = template_environment()
        self._marking.add_extension(_MarkedGeneration)
        try:
            self._template = self._environment.from_string(reader.template or "")
            self._marked = self._marking.from_string(reader.template or "")
        except (jinja2.TemplateError, RecursionError) as error:
            raise Refused(f"the base's chat template cannot be read: {error}") from error
        self._sight = sight
        self._bos = (reader.bos_token or "") if sight is not None and reader.add_bos else ""
        self._in_parts = sight is not None and wants_parts(self._plainly)
        self._writes_markers = sight is not None and takes_pictures(self._plainly, sight.marker)
        self._eos = reader.eos_token
        self.control = reader.control_tokens(lambda turns: self._rendered(turns, prompt=False))
        """What the template alone can write."""
        self._ends = re.compile(r"\s*(?:" + _any_of(_special_tokens(reader)) + ")")
        self._is_ended = re.compile(f"(?:{_any_of(_special_tokens(reader))})\\Z")
        self._lead = re.compile(r"(?:\s|" + _any_of(_added_tokens(reader)) + ")*")
        self._has_marks = False
        self._probe()

    def render(
        self, found: Conversation, media: Sequence[MediaPart] = ()
    ) -> tuple[Rendered, tuple[Span, ...]]:
        """The text of a conversation, and the spans of it to be learnt. media: the pictures that
        stand in the places of its turns.

        Raises:
            BadRow: the template refuses it, or renders it so that a turn cannot be found.
        """
        for place, turn in enumerate(found.turns, 1):
            if MARK in turn.content:
                raise BadRow(f"turn {place} holds U+{ord(MARK):04X}, which is no character")
        said = self._parted([{"role": turn.role, "content": turn.content} for turn in found.turns])
        try:
            turns = self.control.shield(said)
        except InvalidParameter as error:
            raise BadRow(error.message) from error
        text = self._text(turns, media, prompt=False)
        text, learn = self._learnt(text, turns, found.muted, media)
        if turns is said:
            return Rendered(text), learn
        return unmarked(text), tuple(
            (begin - text.count(SENTINEL, 0, begin), end - text.count(SENTINEL, 0, end))
            for begin, end in learn
        )

    def _learnt(
        self,
        text: str,
        turns: Sequence[TemplateTurn],
        muted: frozenset[int],
        media: Sequence[MediaPart],
    ) -> tuple[str, tuple[Span, ...]]:
        """`text`, and where in it stands what the assistant is to say.

        Where the template of a base that sees ends no turn by a token, as LLaVA 1.5's, the last
        answer gets one, and the others are learnt without, as they stand in prompts.
        """
        if self._has_marks:
            begins = self._marked_begins(turns, media)
        else:
            begins = self._begins(turns, text, media)
        spans: list[Span] = []
        for place, begin in begins:
            if spans and begin < spans[-1][1]:
                raise BadRow(f"turn {place + 1}: the template runs it into the one before")
            spans.append(self._span(text, begin, _said(turns[place]), place))
        begin, end = spans[-1]
        if begins[-1][0] == len(turns) - 1 and not self._is_ended.search(text, begin, end):
            text = f"{text[:end]}{self._eos}"
            spans[-1] = begin, len(text)
        learnt = zip(begins, spans, strict=True)
        return text, tuple(span for (place, _), span in learnt if place not in muted)

    def _probe(self) -> None:
        self._has_marks = MARK in self._marks(PROBE)
        try:
            self.render(PROBE)
        except BadRow as error:
            raise Refused(
                f"the base's chat template does not let the assistant's words be found: {error};"
                " put {% generation %} and {% endgeneration %} around them in the template"
            ) from error

    def _marks(self, found: Conversation) -> str:
        turns = [{"role": turn.role, "content": turn.content} for turn in found.turns]
        try:
            return self._text(turns, (), prompt=False, marked=True)
        except BadRow as error:
            raise Refused(f"the base's chat template fails: {error}") from error

    def _begins(
        self, turns: Sequence[TemplateTurn], text: str, media: Sequence[MediaPart]
    ) -> list[tuple[int, int]]:
        """Where each turn of the assistant begins: (its place among the turns, position)."""
        begins = []
        for place, turn in enumerate(turns):
            if turn["role"] == ASSISTANT:
                before = self._text(turns[:place], media, prompt=True)
                if not text.startswith(before):
                    raise BadRow(
                        f"turn {place + 1}: the template renders what goes before it otherwise"
                        " once it is answered"
                    )
                begins.append((place, len(before)))
        return begins

    def _marked_begins(
        self, turns: Sequence[TemplateTurn], media: Sequence[MediaPart]
    ) -> list[tuple[int, int]]:
        pieces = self._text(turns, media, prompt=False, marked=True).split(MARK)
        starts, position = [], 0
        for number, piece in enumerate(pieces[:-1]):
            position += len(piece)
            if number % 2 == 0:
                starts.append(position)
        places = [place for place, turn in enumerate(turns) if turn["role"] == ASSISTANT]
        if len(starts) != len(places) or len(pieces) % 2 == 0:
            raise BadRow(f"the template marks {len(starts)} of {len(places)} of its turns")
        return list(zip(places, starts, strict=True))

    def _span(self, text: str, begin: int, content: str, place: int) -> Span:
        """From `begin` to the end of the token that ends the turn; between them, `content`.

        A template may strip the words, and put blanks or tokens (an empty thought) before them.
        """
        said = content.strip()
        at = text.find(said, begin)
        if at < 0 or not self._lead.fullmatch(text, begin, at):
            raise BadRow(f"turn {place + 1}: the template changes the assistant's words")
        end = self._ends.match(text, at + len(said))
        if end is not None:
            return begin, end.end()
        if self._sight is None or self._eos is None:
            raise BadRow(f"turn {place + 1}: no special token ends the assistant's turn")
        return begin, at + len(said)

    def _text(
        self,
        turns: Sequence[TemplateTurn],
        media: Sequence[MediaPart],
        *,
        prompt: bool,
        marked: bool = False,
    ) -> str:
        """What the template makes of turns, the first of `media` in their places."""
        try:
            text = self._rendered(turns, prompt=prompt, marked=marked)
            if self._sight is None or not media:
                return text
            shown = media[: sum(map(_places, turns))]
            return with_media(text, self._sight, shown, marked=self._writes_markers).text
        except InvalidRequest as error:
            raise BadRow(error.message) from error
        except jinja2.TemplateError as error:
            raise BadRow(f"the chat template: {error}") from error
        except Exception as error:  # a template is code, and may fail in any way
            raise BadRow(f"the chat template: {type(error).__name__}: {error}") from error

    def _rendered(
        self, turns: Sequence[TemplateTurn], *, prompt: bool, marked: bool = False
    ) -> str:
        environment = self._marking if marked else self._environment
        template = self._marked if marked else self._template
        turns = self._parted(turns)
        variables = {"messages": turns, "add_generation_prompt": prompt, **self._variables}
        text = environment.render_bounded(template, variables)
        return text if text.startswith(self._bos) else f"{self._bos}{text}"

    def _plainly(self, variables: Mapping[str, Any]) -> str:
        return self._environment.render_bounded(self._template, {**self._variables, **variables})

    def _parted(self, turns: Sequence[TemplateTurn]) -> Sequence[TemplateTurn]:
        """Turns as the template wants them, of a base that sees in parts."""
        if not (self._in_parts or self._writes_markers):
            return turns
        return parted(turns, all_of_them=self._in_parts)


class _MarkedGeneration(Extension):
    """`{% generation %}` with a mark before and after what is in it."""

    tags = {"generation"}  # noqa: RUF012 - the base declares it so
    priority = 101
    """After the tag of the same name that nsedge has for rendering."""

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The tag's contents between marks."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [_mark(line), *body, _mark(line)]


def _mark(line: int) -> nodes.Node:
    output = nodes.Output([nodes.TemplateData(MARK)])
    output.set_lineno(line)
    return output


def _places(turn: TemplateTurn) -> int:
    """Pictures that a turn shows."""
    content = turn["content"]
    if isinstance(content, str):
        return content.count(PLACE)
    return sum(part["type"] == "image" for part in content)


def _said(turn: TemplateTurn) -> str:
    """The words of an assistant's turn."""
    content = turn["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])


def _special_tokens(reader: TextReader) -> list[str]:
    """Tokens that no text is made of, the longest first.

    Raises:
        Refused: there are none, so that nothing can end a turn.
    """
    added = reader.tokenizer.get_added_tokens_decoder().values()
    tokens = {token.content for token in added if token.special}
    tokens |= {reader.eos_token} if reader.eos_token else set()
    if not tokens:
        raise Refused("the base's tokenizer has no special token that could end a turn")
    return sorted(tokens, key=lambda token: (-len(token), token))


def _added_tokens(reader: TextReader) -> list[str]:
    added = {token.content for token in reader.tokenizer.get_added_tokens_decoder().values()}
    return sorted(added, key=lambda token: (-len(token), token))


def _any_of(texts: list[str]) -> str:
    """A pattern that matches one of them; none where there are none."""
    return "|".join(re.escape(text) for text in texts) or r"(?!)"
