"""Prompts to token ids: the chat template, the tokenizer, and the bounds of the context.

Templates are rendered in `runtime.text.template`, as Hugging Face's `apply_chat_template` does, so
that both give the same ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jinja2
from tokenizers import Tokenizer

from nsedge.api import Chat, Constraint, Generate, PromptReading, ToolFormat
from nsedge.bundle.manifest import WritingBundle
from nsedge.errors import BundleInvalid, EmptyPrompt, InvalidParameter
from nsedge.runtime.text.answer.channel_grammar import ChannelGrammars
from nsedge.runtime.text.answer.formats import FORMATS, Body, format_of, thoughts_of
from nsedge.runtime.text.answer.grammar import CallGrammars
from nsedge.runtime.text.answer.reader import AnswerForm
from nsedge.runtime.text.control import ControlTokens, Rendered, texts_in, unmarked
from nsedge.runtime.text.conversation import Habits
from nsedge.runtime.text.filling import FillTokens
from nsedge.runtime.text.rendering import ChatTemplate
from nsedge.runtime.text.sight import (
    TOLD,
    Placing,
    Shown,
    Sight,
    found_in,
    place_of,
    placed,
    shown_in,
    with_media,
)
from nsedge.runtime.text.template import special_texts
from nsedge.runtime.text.tokens import TokenTexts, is_named

TAIL_TOKENS = 8
"""Of a prompt, looked at for the beginning of a thought."""


class PromptReader:
    """Turns the prompts of requests into token ids for one bundle. Thread-safe."""

    def __init__(
        self,
        bundle: WritingBundle,
        tokenizer: Tokenizer,
        *,
        tool_format: ToolFormat | None = None,
        sight: Sight | None = None,
    ) -> None:
        """Compile the bundle's templates. tool_format: how the model writes calls, where its
        template does not tell. sight: how pictures stand in its prompts, where it sees.

        Raises:
            BundleInvalid: where one is not a template.
        """
        self._tokenizer = tokenizer
        self._sight = sight
        self._vocab_size = bundle.manifest.vocab_size
        settings = bundle.manifest.tokenizer
        special = special_texts(
            bos_token=settings.bos_token,
            eos_token=settings.eos_token,
            unk_token=settings.unk_token,
            pad_token=settings.pad_token,
        )
        bos = settings.bos_token if settings.add_bos else None
        self._fill = FillTokens.of(tokenizer)
        self._texts = TokenTexts(tokenizer)
        self._bos_id = None if bos is None else tokenizer.token_to_id(bos)
        source = bundle.text(bundle.manifest.chat_template)
        with_tools = bundle.text(bundle.manifest.tool_template)
        telling = with_tools or source or ""
        calls = format_of(telling) if tool_format is None else FORMATS[tool_format]
        self.answers = AnswerForm(calls=calls, thoughts=thoughts_of(telling))
        """How the model writes thoughts and calls."""
        try:
            self._template, self._tool_template = (
                None
                if text is None
                else ChatTemplate(
                    text,
                    special=special,
                    calls=calls,
                    marker=None if sight is None else sight.marker,
                )
                for text in (source, with_tools)
            )
        except (jinja2.TemplateError, RecursionError) as error:
            where = f"{bundle.path}: the chat template cannot be read"
            raise BundleInvalid(f"{where}: {error}") from error
        plain = self._template
        self._control = ControlTokens(
            tokenizer,
            template="\n".join(filter(None, (source, with_tools))),
            named=(
                *(settings.bos_token, settings.eos_token),
                *map(tokenizer.id_to_token, bundle.manifest.eos_token_ids),
            ),
            render=None
            if plain is None
            else lambda turns: plain.render({"messages": turns, "add_generation_prompt": False}),
        )
        named = {
            token.content: number
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if is_named(token)
        }
        self._calls = (
            ChannelGrammars(token_of=named.get)
            if calls.body is Body.CHANNELS
            else CallGrammars(calls=calls, thoughts=self.answers.thoughts, token_of=named.get)
        )

    @property
    def habits(self) -> Habits | None:
        """How the template for tools takes them; None where there is no template."""
        template = self._tool_template or self._template
        return None if template is None else template.habits

    def constraint(self, task: Generate | Chat, ids: Sequence[int]) -> Constraint | None:
        """What the answer to a prompt, whose ids are given, is held to; None where it is free.

        Raises:
            InvalidParameter: a constraint that does not go with tools.
        """
        if isinstance(task, Chat):
            return self._calls.constraint(task, in_thought=self.in_thought(task, ids))
        return task.constraint

    def in_thought(self, task: Generate | Chat, ids: Sequence[int]) -> bool:
        """Whether a prompt, whose ids are given, ends within a thought that the template, or the
        turn which is to be continued, has begun."""
        marks = self.answers.thoughts
        if marks is None or not isinstance(task, Chat):
            return False
        if task.continue_final_message:
            said = task.messages[-1].text
            if marks.begin in said:
                return said.rfind(marks.begin) > said.rfind(marks.end)
        tail = self._tokenizer.decode(list(ids[-TAIL_TOKENS:]), skip_special_tokens=False)
        return str(tail).rstrip().endswith(marks.begin)

    def read(self, task: Generate | Chat) -> tuple[int, ...]:
        """The ids of a prompt.

        Raises:
            EmptyPrompt: where there is nothing to continue.
            InvalidParameter: messages for a model without a chat template, or a token that the
                model has no embedding for.
            InvalidRequest: where the template refuses the conversation.
        """
        ids = self.reading(task).token_ids
        if not ids:
            raise EmptyPrompt("the prompt is empty", param="prompt")
        return ids

    def reading(
        self, task: Generate | Chat, *, add_special: bool = True, parse_special: bool = True
    ) -> PromptReading:
        """A prompt as it is read; an empty one, too. See `nsedge.api.PromptQuestion`.

        Raises as `read`.
        """
        if isinstance(task, Chat):
            rendered, _ = self._render(task)
            ids = self._encoded(rendered)
            return PromptReading(text=rendered.text, token_ids=tuple(ids))
        if task.token_ids is not None:
            self._check(list(task.token_ids), param="prompt")
            return PromptReading(text=self.text_of(task.token_ids), token_ids=task.token_ids)
        shown = [[file.name, file.text] for file in task.extra_files]
        _check_unicode([task.text, task.suffix, shown], "the prompt", param="prompt")
        if task.suffix is None:
            ids = self._control.encode(_as_text(task.text, literal=not parse_special))
        else:
            ids = self._filling(task, task.suffix)
        if add_special and ids and self._bos_id is not None and ids[0] != self._bos_id:
            ids.insert(0, self._bos_id)
        self._check(ids, param="prompt")
        return PromptReading(text=task.text, token_ids=tuple(ids))

    def look(self, task: Chat) -> tuple[tuple[int, ...], tuple[Shown, ...]]:
        """The ids of a prompt with pictures, and where these are in it. Raises as `read`."""
        rendered, placing = self._render(task)
        ids = self._encoded(rendered)
        if self._sight is None:
            return tuple(ids), ()
        return tuple(ids), found_in(ids, self._sight, placing)

    def _encoded(self, rendered: Rendered) -> list[int]:
        """The ids of a chat. Of a model that sees, the processor puts bos_token before it."""
        ids = self._control.encode(rendered)
        if self._sight is not None and self._bos_id is not None and ids[:1] != [self._bos_id]:
            ids.insert(0, self._bos_id)
        self._check(ids, param="messages")
        return ids

    def pieces(self, token_ids: Sequence[int]) -> tuple[bytes, ...]:
        """What each token adds to a text, the names of special ones among it."""
        texts = [self._texts[token_id] for token_id in token_ids]
        return tuple(one.text.encode() if one.raw is None else one.raw for one in texts)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens, the names of special ones in it.

        Raises:
            InvalidParameter: one that the model does not have.
        """
        worst = max(token_ids, default=0)
        if worst >= self._vocab_size:
            raise InvalidParameter(
                f"token {worst} is none of the {self._vocab_size} of the vocabulary", param="tokens"
            )
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def _filling(self, task: Generate, after: str) -> list[int]:
        """The prompt that has a gap filled; no name of a token in any of its texts is one."""
        if self._fill is None:
            raise InvalidParameter(
                "this model was not trained to fill a gap: its vocabulary has no tokens for it",
                param="suffix",
            )

        def encode(texts: Sequence[str]) -> list[list[int]]:
            return self._control.encode_batch([_as_text(text, literal=True) for text in texts])

        return self._fill.prompt(task.text, after, task.extra_files, encode)

    def ends(self, task: Generate | Chat) -> tuple[int, ...]:
        """Tokens that end the answer to a task besides the model's own ends: of a gap's text."""
        fills = isinstance(task, Generate) and task.suffix is not None
        return self._fill.ends if fills and self._fill is not None else ()

    def spellings(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """The ids of each word as it begins a text, and as it follows a space; each once.

        Raises:
            InvalidParameter: where a word is no Unicode, or no tokens.
        """
        found: dict[tuple[int, ...], None] = {}
        for word in words:
            _check_unicode(word, f"the bad word {word!r}", param="bad_words")
            bare = word.lstrip() or word
            for text in (bare, f" {bare}"):
                ids = self._tokenizer.encode(text, add_special_tokens=False).ids
                if not ids:
                    raise InvalidParameter(
                        f"the bad word {word!r} has no tokens", param="bad_words"
                    )
                self._check(ids, param="bad_words")
                found[tuple(ids)] = None
        return tuple(found)

    def rendered(self, task: Chat) -> str:
        """What the template makes of a chat. Raises as `read`."""
        return self._render(task)[0].text

    def _check(self, ids: list[int], *, param: str) -> None:
        """Refuse what a tokenizer knows and the model does not."""
        worst = max(ids, default=0)
        if worst < self._vocab_size:
            return
        name = self._tokenizer.id_to_token(worst)
        if name is None:
            raise InvalidParameter(
                f"token {worst} is none of the {self._vocab_size} of the vocabulary", param=param
            )
        raise InvalidParameter(
            f"token {worst} ({name!r}) is in the tokenizer, but the model's vocabulary ends at"
            f" {self._vocab_size - 1}",
            param=param,
        )

    def _render(self, task: Chat) -> tuple[Rendered, Placing]:
        """What the template makes of a chat, and the pictures in it."""
        template = self._template
        if task.usable_tools and self._tool_template is not None:
            template = self._tool_template
        if template is None:
            raise InvalidParameter(
                "this model has no chat template: send text instead of messages", param="messages"
            )
        if not task.messages:
            raise EmptyPrompt("messages is empty", param="messages")
        parts = shown_in(task.messages)
        variables = template.variables(self._with_places(task))
        for number, turn in enumerate(variables["messages"]):
            _check_unicode(turn, f"messages[{number}]", param="messages")
        _check_unicode(variables, "what the template gets", param="messages")
        shielded = self._control.shield_all(variables)
        render = template.continued if task.continue_final_message else template.render
        text = render(shielded)
        placing = Placing(text)
        if self._sight is not None and parts:
            marked = template.writes_markers
            placing = with_media(text, self._sight, parts, marked=marked)
        text = placing.text
        return Rendered(text) if shielded is variables else unmarked(text), placing

    def _with_places(self, task: Chat) -> Chat:
        """A chat whose messages are texts, with places for the pictures in them."""
        sight = self._sight
        takes = () if sight is None else sight.kinds
        turns, before = [], Counter[str]()
        for number, message in enumerate(task.messages):
            where = f"messages[{number}]"
            for medium in message.media:
                if medium.kind not in takes:
                    *before_last, last = ("text", *(TOLD[kind] for kind in takes))
                    reads = " and ".join(filter(None, (", ".join(before_last), last)))
                    what = f"{where}: this model reads {reads}, and takes no {medium.type}"
                    raise InvalidParameter(what, param="messages")
            turns.append(message if sight is None else placed(message, sight, where, before))
            before.update(map(place_of, message.media))
        return task if sight is None else replace(task, messages=tuple(turns))


def _as_text(text: str, *, literal: bool) -> Rendered:
    """`text`, whose names of control tokens are tokens unless it is `literal`."""
    return Rendered(text, ((0, len(text)),) if literal and text else ())


def _check_unicode(value: Any, where: str, *, param: str) -> None:
    """Refuse a text, or a value of texts, that is no Unicode."""
    for text in texts_in(value):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidParameter(
                f"{where} holds a lone surrogate at character {error.start}", param=param
            ) from error
