"""`nsedge run MODEL [PROMPT]`: one request, streamed to the terminal."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from nsedge.api import Generate, Message, Part, Role
from nsedge.cli import answer, showing
from nsedge.cli.constraining import constraint_of
from nsedge.cli.sampling import sampling_of
from nsedge.cli.scheduling import scheduling_of
from nsedge.config.reader import Loaded
from nsedge.errors import EmptyPrompt, InvalidParameter, UnsupportedTask
from nsedge.ipc import reach
from nsedge.ipc.client import Client
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Generate once; 130 where Ctrl-C cancelled it."""
    sampling, scheduling = sampling_of(options), scheduling_of(options)
    held = constraint_of(options)
    if options.logprobs is not None:
        if not options.json:
            raise InvalidParameter("--logprobs needs --json: text alone does not tell them")
        sampling = dataclasses.replace(sampling, logprobs=options.logprobs)
        sampling.check()
    if options.raw and options.system:
        raise InvalidParameter("--system needs the chat template that --raw leaves out")
    if options.raw and options.media:
        raise InvalidParameter(
            "--image, --audio and --video need the chat template that --raw leaves out"
        )
    text, media = _prompt(options.prompt), showing.shown(options)
    with reach.to_core(loaded.settings) as client:
        if options.raw:
            events = client.generate(
                options.model, text, sampling=sampling, constraint=held, **scheduling
            )
        else:
            asked = conversation(options.system, showing.content(media, text))
            events = client.chat(
                options.model, asked, sampling=sampling, constraint=held, **scheduling
            )
        with events:
            try:
                shown = answer.show(events, as_json=options.json, quiet=options.quiet)
            except UnsupportedTask as error:
                if options.raw or not _continues(client, options.model):
                    raise
                hint = f"{error.message}; --raw has it continue the prompt as a plain text"
                raise UnsupportedTask(hint, param=error.param) from error
    return shown.status


def _continues(client: Client, model: str) -> bool:
    """Whether the model of that name or alias continues texts."""
    return any(
        model in (one.name, *one.aliases) and Generate.name in one.tasks for one in client.models()
    )


def conversation(system: str | None, said: str | tuple[Part, ...]) -> list[Message]:
    """A conversation of one question."""
    asked = [Message(role=Role.USER, content=said)]
    return asked if system is None else [Message(role=Role.SYSTEM, content=system), *asked]


def _prompt(words: list[str]) -> str:
    if words and words != ["-"]:
        return " ".join(words)
    if sys.stdin.isatty() and not words:
        raise EmptyPrompt("no prompt: give one after the model's name, or pipe it in")
    try:
        text = console.text_of(sys.stdin.read())
    except ValueError as error:
        raise InvalidParameter(f"the prompt on standard input is not text: {error}") from error
    if not text.strip():
        raise EmptyPrompt("the prompt on standard input is empty")
    return text
