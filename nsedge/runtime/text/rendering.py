"""Chat templates, rendered as Hugging Face's `apply_chat_template` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from nsedge.api import Chat
from nsedge.errors import InvalidParameter, InvalidRequest
from nsedge.runtime.text.answer.formats import CallFormat
from nsedge.runtime.text.conversation import Habits, Teller
from nsedge.runtime.text.effort import Effort
from nsedge.runtime.text.parts import parted, takes_pictures, wants_parts
from nsedge.runtime.text.template import template_environment

CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG "
"""Put behind a message to find its end; the blank shows whether the template trims."""


class ChatTemplate:
    """One template, compiled. Thread-safe."""

    def __init__(
        self,
        source: str,
        *,
        special: Mapping[str, str],
        calls: CallFormat,
        marker: str | None = None,
    ) -> None:
        """special: what it calls the tokenizer's special tokens. calls: how the model writes them.
        marker: what is written in the place of a picture, where the model sees.

        Raises:
            jinja2.TemplateError, RecursionError: it is no template.
        """
        self._environment = template_environment()
        self._effort = Effort.of(self._environment.parse(source), source)
        self._template = self._environment.from_string(source)
        self._takes_documents = "documents" in source
        self._known = {"tools": None, "documents": None, **special}
        self.habits = Habits.of(self.render)
        """How it takes tools."""
        self.writes_markers = marker is not None and takes_pictures(self.render, marker)
        """Whether a picture comes as a part, for which it writes the marker."""
        self._in_parts = marker is not None and wants_parts(self.render)
        self._teller = Teller(habits=self.habits, calls=calls)

    def variables(self, task: Chat) -> dict[str, Any]:
        """What it gets of a chat.

        Raises:
            InvalidParameter: documents or an effort that it has no place for, or template
                arguments that have fields of their own.
        """
        if task.documents and not self._takes_documents:
            raise InvalidParameter(
                "this model's chat template has no place for documents: put them into a message",
                param="documents",
            )
        told = self._effort.variables(task.reasoning_effort) | self._teller.variables(task)
        if self.writes_markers or self._in_parts:
            told["messages"] = parted(told["messages"], all_of_them=self._in_parts)
        return told

    def render(self, variables: Mapping[str, Any]) -> str:
        """What it makes of `variables`.

        Raises:
            InvalidRequest: it refuses them, or fails.
        """
        try:
            return self._environment.render_bounded(self._template, {**self._known, **variables})
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"the chat template: {error}", param="messages") from error
        except Exception as error:  # a template is code, and may fail in any way
            raise InvalidRequest(
                f"the chat template: {type(error).__name__}: {error}", param="messages"
            ) from error

    def continued(self, variables: Mapping[str, Any]) -> str:
        """The same up to the end of the last message, as transformers finds it.

        Raises:
            InvalidRequest: it drops that message, or parts of it, or fails.
        """
        *before, last = variables["messages"]
        content = last["content"]
        said = content if isinstance(content, str) else content[-1]["text"]
        marked = said + CONTINUED
        if not isinstance(content, str):
            marked = [*content[:-1], {**content[-1], "text": marked}]
        text = self.render({**variables, "messages": [*before, {**last, "content": marked}]})
        end = text.rfind(CONTINUED.strip())
        if end < 0 or said.strip() not in text:
            raise InvalidRequest(
                "the chat template leaves out what is to be continued",
                param="continue_final_message",
            )
        kept = text[end:].startswith(CONTINUED)
        return text[:end] if kept else text[:end].rstrip()
