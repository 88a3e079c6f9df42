"""`nsedge classify MODEL [TEXT ...]`: the labels of each text, or of the spans in it; with
`--image` and `--labels`, which of these a picture shows."""

from __future__ import annotations

import argparse

from nsedge.api import Label, Media
from nsedge.api.labels import Text
from nsedge.cli import output
from nsedge.cli.exits import ExitStatus
from nsedge.cli.pictures import read_picture
from nsedge.cli.scheduling import scheduling_of
from nsedge.cli.texts import read_texts
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Label the texts: a line each with its surest labels, or a line for each span."""
    inputs: list[Text | Media] = []
    if options.texts or not options.image:
        inputs += read_texts(options.texts)
    inputs += map(read_picture, options.image)
    with reach.to_core(loaded.settings) as client:
        found = client.classify(
            options.model,
            inputs,
            labels=options.labels,
            prompt=options.prompt_around,
            top_k=options.top_k,
            activation=options.activation,
            aggregation=options.aggregation,
            truncate=options.truncate,
            **scheduling_of(options),
        ).collected()
    for index, labels in enumerate(found.labels):
        if options.json:
            output.say_json({"index": index, "labels": [_told(label) for label in labels]})
        else:
            for line in _lines(index, labels):
                output.say(f"{line}\n")
    if not options.json and not options.quiet:
        usage = found.usage
        seen = f" and {usage.images} pictures" if usage.images else ""
        texts = len(inputs) - usage.images
        console.note(f"{texts} texts{seen} of {usage.prompt_tokens} tokens")
    return ExitStatus.OK


def _lines(index: int, labels: tuple[Label, ...]) -> list[str]:
    if any(label.start is not None for label in labels):
        return [
            f"{index}\t{label.start}-{label.end}\t{label.label}\t{label.score:.4f}\t{label.word}"
            for label in labels
        ]
    return ["\t".join(f"{label.label} {label.score:.4f}" for label in labels)]


def _told(label: Label) -> dict[str, object]:
    fields = {name: getattr(label, name) for name in Label.__dataclass_fields__}
    return {name: value for name, value in fields.items() if value is not None}
