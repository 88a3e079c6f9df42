"""`nsedge rerank MODEL QUERY [DOCUMENT ...]`: documents in the order of how well they answer."""

from __future__ import annotations

import argparse

from nsedge.cli import output
from nsedge.cli.exits import ExitStatus
from nsedge.cli.scheduling import scheduling_of
from nsedge.cli.texts import read_texts
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Score the documents: a line each, the best first."""
    documents = read_texts(options.documents)
    with reach.to_core(loaded.settings) as client:
        found = client.score(
            options.model,
            options.query,
            documents,
            truncate=options.truncate,
            **scheduling_of(options),
        ).collected()
    scores = found.scores
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    for at in order[: options.top]:
        if options.json:
            output.say_json({"index": at, "score": scores[at], "document": documents[at]})
        else:
            output.say(f"{scores[at]:.4f}\t{documents[at]}\n")
    if not options.json and not options.quiet:
        console.note(f"{len(documents)} documents of {found.usage.prompt_tokens} tokens")
    return ExitStatus.OK
