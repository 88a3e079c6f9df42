"""`nsedge fill MODEL [TEXT ...]`: the likeliest tokens for the masks in each text."""

from __future__ import annotations

import argparse

from nsedge.api import Filling
from nsedge.cli import output
from nsedge.cli.exits import ExitStatus
from nsedge.cli.scheduling import scheduling_of
from nsedge.cli.texts import read_texts
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Fill the masks: a line each, the likeliest token first."""
    texts = read_texts(options.texts)
    with reach.to_core(loaded.settings) as client:
        found = client.fill(
            options.model, texts, top_k=options.top_k, **scheduling_of(options)
        ).collected()
    for index, masks in enumerate(found.masks):
        if options.json:
            told = [[_told(one) for one in tokens] for tokens in masks]
            output.say_json({"index": index, "masks": told})
            continue
        for tokens in masks:
            line = "\t".join(f"{one.token.strip()} {one.score:.4f}" for one in tokens)
            output.say(f"{line}\n")
    if not options.json and not options.quiet:
        console.note(f"{len(texts)} texts of {found.usage.prompt_tokens} tokens")
    return ExitStatus.OK


def _told(one: Filling) -> dict[str, object]:
    return {"token_id": one.token_id, "token": one.token, "score": one.score}
