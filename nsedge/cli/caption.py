"""`nsedge caption FILE...`: what is to be seen in pictures."""

from __future__ import annotations

import argparse

import msgspec

from nsedge.api import Caption, Event, Loading
from nsedge.api.collecting import Collecting
from nsedge.cli import output
from nsedge.cli.constraining import constraint_of
from nsedge.cli.pictures import picture_of
from nsedge.cli.sampling import sampling_of
from nsedge.cli.scheduling import scheduling_of
from nsedge.cli.several import Asked, asked, default_model, show_each
from nsedge.config.reader import Loaded
from nsedge.errors import InvalidParameter, NsedgeError
from nsedge.ipc import reach
from nsedge.ipc.sync import Events
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Caption the pictures; 1 where one of several could not be.

    Raises:
        InvalidParameter: several captions of each, which have no place in a line.
    """
    sampling, held = sampling_of(options), constraint_of(options)
    several, scheduling = len(options.files) > 1, scheduling_of(options)
    if sampling.n > 1:
        raise InvalidParameter("a picture has one caption here: leave n out", param="n")
    with reach.to_core(loaded.settings) as client:
        model = options.model or default_model(
            client,
            loaded.settings.media.caption_model,
            task=Caption.name,
            missing="no model here captions pictures: nsedge-export model makes one",
        )

        def ask(name: str, data: bytes) -> Events:
            return client.caption(
                model,
                picture_of(name, data),
                prompt=options.prompt_text or "",
                sampling=sampling,
                constraint=held,
                **scheduling,
            )

        return show_each(
            asked(options.files, ask),
            lambda one: _show(one, options, several=several),
            several=several,
        )


def _show(asked: Asked, options: argparse.Namespace, *, several: bool) -> None:
    """Write what comes of one picture. Raises what it failed with, and whose picture that was."""
    found = Collecting()
    try:
        with asked.events as events:
            for event in events:
                found.saw(event)
                if not options.quiet:
                    _tell(event)
    except NsedgeError as error:
        if several:
            error.message = f"{asked.name}: {error.message}"
        raise
    finally:
        console.status("")
    whole = found.collected()
    caption = " ".join(whole.text.split())
    if options.json:
        usage = msgspec.to_builtins(whole.usage)
        output.say_json({"file": asked.name, "caption": caption, "usage": usage})
    else:
        output.say(f"{asked.name}: {caption}\n" if several else f"{caption}\n")


def _tell(event: Event) -> None:
    if isinstance(event, Loading):
        console.status(f"loading {event.model} {event.progress:.0%}")
