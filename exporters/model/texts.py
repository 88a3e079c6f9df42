"""The texts a model is held to, as token ids of that model."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer

from exporters.errors import ExportError
from nsedge.runtime.text.control import ControlTokens, Rendered, TemplateTurn, unmarked
from nsedge.runtime.text.parts import parted, wants_parts
from nsedge.runtime.text.template import special_texts, template_environment

FIDELITY_FILE = Path(__file__).parents[1] / "data" / "fidelity.toml"
GOLDEN_FILE = Path(__file__).parents[1] / "data" / "golden.toml"
PROMPTS_FILE = Path(__file__).parents[1] / "data" / "prompts.toml"
CALIBRATION_FILE = Path(__file__).parents[1] / "data" / "calibration.toml"

PASSAGE_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class TextReader:
    """Renders and encodes as the daemon does: the template's text, or bos_token and plain text."""

    tokenizer: Tokenizer
    template: str | None
    bos_token: str | None
    eos_token: str | None
    add_bos: bool
    ends: tuple[str, ...] = ()
    """Tokens that end a text, beside eos_token."""
    unk_token: str | None = None
    pad_token: str | None = None
    sees: bool = False
    """Whether the model sees pictures: its template may want what is said in parts then, and
    bos_token stands before what it renders, as transformers' processors have it."""

    @property
    def special(self) -> dict[str, str]:
        """The special tokens that the template knows by name."""
        return special_texts(
            bos_token=self.bos_token,
            eos_token=self.eos_token,
            unk_token=self.unk_token,
            pad_token=self.pad_token,
        )

    def control_tokens(
        self, render: Callable[[Sequence[TemplateTurn]], str] | None = None
    ) -> ControlTokens:
        """The tokens that nobody can say; `render` as ControlTokens has it."""
        return ControlTokens(
            self.tokenizer,
            template=self.template or "",
            named=(self.bos_token, self.eos_token, *self.ends),
            render=render,
        )

    def question(self, text: str) -> list[int]:
        """Token ids of the prompt that asks `text`, which is a text whatever it reads like.

        Raises:
            ExportError: the template is broken.
        """
        control = self.control_tokens()
        turns: Sequence[TemplateTurn] = [{"role": "user", "content": text}]
        shielded = control.shield(turns)
        rendered = self.chat(shielded, add_generation_prompt=True)
        return control.encode(Rendered(rendered) if shielded is turns else unmarked(rendered))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, its special tokens recognised and none added.

        Raises:
            ExportError: the tokenizer has no tokens for it.
        """
        return encoded(self.tokenizer, text, add_special_tokens=False)

    def plain(self, text: str) -> str:
        """The text of a plain prompt."""
        return f"{self.bos_token}{text}" if self.add_bos and self.bos_token else text

    def chat(self, messages: Sequence[TemplateTurn], *, add_generation_prompt: bool) -> str:
        """The conversation as the template renders it, or its turns as plain paragraphs.

        Raises:
            ExportError: the template is broken.
        """
        if self.template is None:
            return self.plain("\n\n".join(message["content"] for message in messages))
        environment = template_environment()
        variables = {
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
        }
        try:
            template = environment.from_string(self.template)

            def render(variables: Mapping[str, Any]) -> str:
                return environment.render_bounded(template, {**variables, **self.special})

            if not self.sees:
                return render(variables)
            turns = parted(messages, all_of_them=wants_parts(render))
            text, bos = render(variables | {"messages": turns}), self.bos_token or ""
            return text if text.startswith(bos) else self.plain(text)
        except TemplateError as error:
            raise ExportError(f"the chat template fails: {error}") from error
        except Exception as error:  # a template is code, and may fail in any way
            kind = type(error).__name__
            raise ExportError(f"the chat template fails: {kind}: {error}") from error


def encoded(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool) -> list[int]:
    """Token ids of `text`.

    Raises:
        ExportError: the tokenizer has no tokens for it.
    """
    try:
        return list(tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)
    except Exception as error:  # the library raises nothing narrower
        raise ExportError(f"the tokenizer cannot encode a text: {error}") from error


def fidelity_text_sha256() -> str:
    """Which text fidelity is measured over."""
    return hashlib.sha256(FIDELITY_FILE.read_bytes()).hexdigest()


def fidelity_passages(reader: TextReader) -> list[list[int]]:
    """Token ids of every passage that fidelity is measured over."""
    return _passages(reader, FIDELITY_FILE)


def calibration_passages(reader: TextReader) -> list[list[int]]:
    """Token ids of every passage that ranges are taken from; fidelity is measured over none."""
    return _passages(reader, CALIBRATION_FILE)


def _passages(reader: TextReader, file: Path) -> list[list[int]]:
    passages = _read(file, "passage")
    return [reader.encode(_render(reader, p, add_generation_prompt=False)) for p in passages]


def text_passages(reader: TextReader, file: Path) -> list[list[int]]:
    """Token ids of a plain text, cut into passages that a graph is run over.

    Raises:
        ExportError: the file cannot be read, is not UTF-8, or holds too little.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ExportError(f"{file}: {error}") from error
    ids = reader.encode(reader.plain(text))
    passages = [ids[at : at + PASSAGE_TOKENS] for at in range(0, len(ids), PASSAGE_TOKENS)]
    whole = [passage for passage in passages if len(passage) > 1]
    if not whole:
        raise ExportError(f"{file}: too short to predict anything of")
    return whole


def prompts_of(file: Path | None) -> tuple[str, ...]:
    """Prompts to answer: each line of `file` that is not empty, or our own.

    Raises:
        ExportError: the file cannot be read, or holds none.
    """
    if file is None:
        return tuple(entry["text"] for entry in _read(PROMPTS_FILE, "prompt"))
    return lines_of(file, "prompt")


def lines_of(file: Path, what: str) -> tuple[str, ...]:
    """The lines of a file of the user's, but for empty ones; messages call each a `what`.

    Raises:
        ExportError: it cannot be read, is not UTF-8, or holds none.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ExportError(f"{file}: {error}") from error
    texts = tuple(line.strip() for line in lines if line.strip())
    if not texts:
        raise ExportError(f"{file}: no {what}; one a line")
    return texts


def golden_texts(reader: TextReader) -> list[str]:
    """The golden prompts as text; one whose turns the template does not know is left out."""
    texts = []
    for prompt in _read(GOLDEN_FILE, "prompt"):
        try:
            texts.append(_render(reader, prompt, add_generation_prompt=True))
        except ExportError:
            if all(message["role"] == "user" for message in prompt.get("messages", [])):
                raise
    return texts


def _render(reader: TextReader, entry: dict[str, Any], *, add_generation_prompt: bool) -> str:
    if "text" in entry:
        return reader.plain(entry["text"].lstrip("\n"))
    return reader.chat(entry["messages"], add_generation_prompt=add_generation_prompt)


def _read(path: Path, key: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))[key]
    return entries
