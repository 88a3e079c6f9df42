"""Prompts to token ids: the chat template, the tokenizer, and the bounds of the context.

Templates are rendered as Hugging Face's `apply_chat_template` does (Jinja in a sandbox, with
trim_blocks and lstrip_blocks, raise_exception and strftime_now), so that both give the same ids;
`runtime.template` bounds what they may take.
"""

from __future__ import annotations

import datetime
import json
from typing import Any, NoReturn

import jinja2
from tokenizers import Tokenizer

from nsedge.api import ChatPrompt, Message, Prompt
from nsedge.bundle.manifest import Bundle
from nsedge.errors import BundleInvalid, EmptyPrompt, InvalidParameter, InvalidRequest
from nsedge.runtime.text.template import ChatEnvironment, check_format


class PromptReader:
    """Turns the prompts of requests into token ids for one bundle. Thread-safe."""

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer) -> None:
        """Compile the bundle's template.

        Raises:
            BundleInvalid: where it is not a template.
        """
        self._tokenizer = tokenizer
        settings = bundle.manifest.tokenizer
        self._specials = {
            "bos_token": settings.bos_token or "",
            "eos_token": settings.eos_token or "",
        }
        bos = settings.bos_token if settings.add_bos else None
        self._bos_id = None if bos is None else tokenizer.token_to_id(bos)
        self._environment = template_environment()
        self._template = _compile(bundle, self._environment)

    def read(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt.

        Raises:
            EmptyPrompt: where there is nothing to continue.
            InvalidParameter: messages for a model without a chat template.
            InvalidRequest: where the template refuses the conversation.
        """
        if isinstance(prompt, ChatPrompt):
            ids = self._encode(self._render(prompt.messages))
        else:
            ids = self._encode(prompt.text)
            if ids and self._bos_id is not None and ids[0] != self._bos_id:
                ids.insert(0, self._bos_id)
        if not ids:
            raise EmptyPrompt("the prompt is empty", param="prompt")
        return tuple(ids)

    def _encode(self, text: str) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidParameter(
                f"the prompt holds a lone surrogate at character {error.start}", param="prompt"
            ) from error
        # The batch call lets other threads run meanwhile; the single one does not.
        encoded = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return list(encoded[0].ids)

    def _render(self, messages: tuple[Message, ...]) -> str:
        if self._template is None:
            raise InvalidParameter(
                "this model has no chat template: send text instead of messages", param="messages"
            )
        if not messages:
            raise EmptyPrompt("messages is empty", param="messages")
        turns = [{"role": str(m.role), "content": m.content} for m in messages]
        try:
            return self._environment.render_bounded(
                self._template,
                {"messages": turns, "add_generation_prompt": True, **self._specials},
            )
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"the chat template: {error}", param="messages") from error


def template_environment() -> ChatEnvironment:
    """What chat templates are rendered in."""
    environment = ChatEnvironment()
    environment.add_filter("tojson", _to_json)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _compile(bundle: Bundle, environment: jinja2.Environment) -> jinja2.Template | None:
    text = bundle.chat_template()
    try:
        return None if text is None else environment.from_string(text)
    except (jinja2.TemplateError, RecursionError) as error:
        raise BundleInvalid(f"{bundle.path}: the chat template cannot be read: {error}") from error


def _to_json(value: Any, indent: int | None = None) -> str:
    """JSON without the HTML escapes of Jinja's own filter."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    check_format(form)
    return datetime.datetime.now().strftime(form)
