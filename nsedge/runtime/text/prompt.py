"""Prompts to token ids: the chat template, the tokenizer, and the bounds of the context.

Templates are rendered in `runtime.text.template`, as Hugging Face's `apply_chat_template` does, so
that both give the same ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import jinja2
from tokenizers import Tokenizer

from nsedge.api import Chat, Generate, Message
from nsedge.bundle.manifest import TextBundle
from nsedge.errors import BundleInvalid, EmptyPrompt, InvalidParameter, InvalidRequest
from nsedge.runtime.text.control import ControlTokens, Rendered, TemplateTurn, unmarked
from nsedge.runtime.text.template import template_environment


class PromptReader:
    """Turns the prompts of requests into token ids for one bundle. Thread-safe."""

    def __init__(self, bundle: TextBundle, tokenizer: Tokenizer) -> None:
        """Compile the bundle's template.

        Raises:
            BundleInvalid: where it is not a template.
        """
        self._tokenizer = tokenizer
        self._vocab_size = bundle.manifest.vocab_size
        settings = bundle.manifest.tokenizer
        self._specials = {
            "bos_token": settings.bos_token or "",
            "eos_token": settings.eos_token or "",
        }
        bos = settings.bos_token if settings.add_bos else None
        self._bos_id = None if bos is None else tokenizer.token_to_id(bos)
        self._environment = template_environment()
        self._template = _compile(bundle, self._environment)
        ends = map(tokenizer.id_to_token, bundle.manifest.eos_token_ids)
        self._control = ControlTokens(
            tokenizer,
            template=bundle.text(bundle.manifest.chat_template) or "",
            named=(*self._specials.values(), *ends),
            render=lambda turns: self._rendered(turns, add_generation_prompt=False),
        )

    def read(self, task: Generate | Chat) -> tuple[int, ...]:
        """The ids of a prompt.

        Raises:
            EmptyPrompt: where there is nothing to continue.
            InvalidParameter: messages for a model without a chat template, or a token that the
                model has no embedding for.
            InvalidRequest: where the template refuses the conversation.
        """
        if isinstance(task, Chat):
            ids = self._control.encode(self._render(task.messages))
            self._check(ids, param="messages")
        else:
            _check_unicode(task.text, "the prompt", param="prompt")
            ids = self._control.encode(Rendered(task.text))
            if ids and self._bos_id is not None and ids[0] != self._bos_id:
                ids.insert(0, self._bos_id)
            self._check(ids, param="prompt")
        if not ids:
            raise EmptyPrompt("the prompt is empty", param="prompt")
        return tuple(ids)

    def _check(self, ids: list[int], *, param: str) -> None:
        """Refuse what a tokenizer knows and the model does not."""
        worst = max(ids, default=0)
        if worst >= self._vocab_size:
            raise InvalidParameter(
                f"token {worst} ({self._tokenizer.id_to_token(worst)!r}) is in the tokenizer, but"
                f" the model's vocabulary ends at {self._vocab_size - 1}",
                param=param,
            )

    def _render(self, messages: tuple[Message, ...]) -> Rendered:
        if self._template is None:
            raise InvalidParameter(
                "this model has no chat template: send text instead of messages", param="messages"
            )
        if not messages:
            raise EmptyPrompt("messages is empty", param="messages")
        for number, message in enumerate(messages):
            _check_unicode(message.text, f"messages[{number}]", param="messages")
            if message.media:
                kind = message.media[0].type
                what = f"messages[{number}]: this model reads text, and takes no {kind}"
                raise InvalidParameter(what, param="messages")
        turns = [{"role": str(m.role), "content": m.text} for m in messages]
        shielded = self._control.shield(turns)
        text = self._rendered(shielded, add_generation_prompt=True)
        return Rendered(text) if shielded is turns else unmarked(text)

    def _rendered(self, turns: Sequence[TemplateTurn], *, add_generation_prompt: bool) -> str:
        """What the template makes of `turns`.

        Raises:
            InvalidRequest: it refuses them, or fails.
        """
        if self._template is None:
            raise InvalidRequest("there is no chat template")
        variables = {"messages": turns, "add_generation_prompt": add_generation_prompt}
        try:
            return self._environment.render_bounded(self._template, variables | self._specials)
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"the chat template: {error}", param="messages") from error
        except Exception as error:  # a template is code, and may fail in any way
            raise InvalidRequest(
                f"the chat template: {type(error).__name__}: {error}", param="messages"
            ) from error


def _check_unicode(text: str, where: str, *, param: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidParameter(
            f"{where} holds a lone surrogate at character {error.start}", param=param
        ) from error


def _compile(bundle: TextBundle, environment: jinja2.Environment) -> jinja2.Template | None:
    text = bundle.text(bundle.manifest.chat_template)
    try:
        return None if text is None else environment.from_string(text)
    except (jinja2.TemplateError, RecursionError) as error:
        raise BundleInvalid(f"{bundle.path}: the chat template cannot be read: {error}") from error
