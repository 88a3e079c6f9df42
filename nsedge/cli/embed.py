"""`nsedge embed MODEL [TEXT ...] [--image FILE ...]`: a vector for each text, then for each
picture, a line each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nsedge.api import Input
from nsedge.cli import output
from nsedge.cli.exits import ExitStatus
from nsedge.cli.pictures import read_picture
from nsedge.cli.scheduling import scheduling_of
from nsedge.cli.texts import read_texts
from nsedge.config.reader import Loaded
from nsedge.errors import NsedgeError
from nsedge.ipc import reach
from nsedge.process import console

if TYPE_CHECKING:
    from nsedge.api.embeddings import Embeddings


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Embed the texts and pictures; vectors go to standard output as JSON arrays, or to a .npy
    file."""
    inputs: list[Input] = []
    if options.texts or not options.image:
        inputs += read_texts(options.texts)
    inputs += map(read_picture, options.image)
    with reach.to_core(loaded.settings) as client:
        found = client.embed(
            options.model,
            inputs,
            dimensions=options.dimensions,
            truncate=options.truncate,
            **scheduling_of(options),
        ).embeddings()
    if options.out is not None:
        _save(found, options.out)
    for index, vector in enumerate(found.array.tolist()):
        if options.json:
            output.say_json({"index": index, "embedding": vector})
        elif options.out is None:
            output.say_json(vector)
    if not options.json and not options.quiet:
        count, dimensions = found.array.shape
        usage = found.usage
        seen = f" and {usage.images} pictures" if usage.images else ""
        console.note(f"{count} x {dimensions} numbers of {usage.prompt_tokens} tokens{seen}")
    return ExitStatus.OK


def _save(found: Embeddings, path: str) -> None:
    import numpy as np  # for this option alone

    try:
        with open(path, "wb") as file:
            np.save(file, found.array, allow_pickle=False)
    except OSError as error:
        raise NsedgeError(f"{path}: {error.strerror}") from error
