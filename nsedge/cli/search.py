"""`nsedge search FOLDER WORDS ...`: the pictures of a folder that are nearest to some words."""

from __future__ import annotations

import argparse
import sys
from collections import deque

from nsedge.api import LoadWish, ModelInfo
from nsedge.cli import output
from nsedge.cli.exits import ExitStatus
from nsedge.cli.picture_index import Floats, PictureIndex, Stamp, stamp_of
from nsedge.cli.pictures import read_picture
from nsedge.config.reader import Loaded
from nsedge.errors import (
    EmptyPrompt,
    InvalidMedia,
    InvalidParameter,
    MessageTooLarge,
    NsedgeError,
    UnknownModel,
)
from nsedge.ipc import reach
from nsedge.ipc.client import Client
from nsedge.ipc.sync import Events
from nsedge.process import console

KIND = "dual-encoder"
AT_ONCE = 32
"""Pictures that are under way; the daemon makes batches of them."""
_ONLY_INPUT = "input 0: "
"""How a message begins that names the input: here there is one."""
WRITE_EVERY = 256
"""Pictures after which the index is written, so that little is lost where it is killed; of one that
has many, a quarter of them, as it is written whole."""


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Bring the folder's index up to date, and tell what is nearest, the nearest first."""
    folder = options.folder
    if not folder.is_dir():
        raise InvalidParameter(f"{folder} is no folder")
    words = " ".join(options.prompt)
    if not words and options.like is None:
        raise EmptyPrompt("nothing to search for: give some words, or --like FILE")
    if words and options.like is not None:
        raise InvalidParameter("search by words or by --like FILE, not both")
    if options.top < 1:
        raise InvalidParameter(f"--top must be at least 1, not {options.top}")
    asked = words if options.like is None else read_picture(options.like)
    with reach.to_core(loaded.settings) as client:
        model = _model(client, options.model)
        vector = client.embed(model.name, [asked], truncate=True).embeddings().array[0]
        index = PictureIndex.open(
            folder,
            loaded.settings.state / "search",
            model=f"{model.name} {model.variant or ''} {model.created}",
            dimensions=len(vector),
        )
        _Following(client, model.name, index, quiet=options.quiet).follow()
    _tell(index, vector, options)
    return ExitStatus.OK


def _tell(index: PictureIndex, vector: Floats, options: argparse.Namespace) -> None:
    for path, cosine in index.nearest(vector, options.top):
        whole = str(options.folder / path)
        if options.json:
            output.say_json({"path": whole, "cosine": round(cosine, 6)})
        else:
            output.say(f"{cosine:.4f}  {whole}\n")


def _model(client: Client, name: str | None) -> ModelInfo:
    """The one of that name, loaded, so that its variant is known; unnamed, the first that makes
    vectors of pictures.

    Raises:
        UnknownModel: there is none.
    """
    models = client.models()
    if name is None:
        name = next((model.name for model in models if model.kind == KIND), None)
        if name is None:
            raise UnknownModel("no model of texts and pictures is served: nsedge-export model")
    return client.load(LoadWish(model=name)).model


class _Following:
    """Brings an index to where its folder is, several pictures at a time."""

    def __init__(self, client: Client, model: str, index: PictureIndex, *, quiet: bool) -> None:
        self._client = client
        self._model = model
        self._index = index
        self._quiet = quiet
        self._under_way: deque[tuple[str, Stamp, Events]] = deque()
        self._done = 0
        self._unwritten = 0
        self._unkept = False

    def follow(self) -> None:
        """All that changed."""
        changes = self._index.changes()
        for path in changes.removed:
            self._index.forget(path)
        try:
            for path in changes.wanted:
                self._ask(path)
                if len(self._under_way) >= AT_ONCE:
                    self._take(len(changes.wanted))
            while self._under_way:
                self._take(len(changes.wanted))
        finally:
            if changes.wanted or changes.removed:
                self._write()
        self._conclude(len(changes.new), len(changes.changed), len(changes.removed))

    def _write(self) -> None:
        """Keep the index. Where that cannot be done, which is told once, the search goes on."""
        try:
            self._index.write()
        except OSError as error:
            if not self._unkept:
                console.note(f"the index is not kept: {console.reason(error)}")
            self._unkept = True

    def _ask(self, path: str) -> None:
        whole = self._index.folder / path
        try:
            stamp = stamp_of(whole)
        except OSError:
            return  # gone since the folder was read
        try:
            media = read_picture(whole)
        except NsedgeError as error:
            self._index.keep_out(path, stamp, error.message)
            return
        self._under_way.append((path, stamp, self._client.embed(self._model, media)))

    def _take(self, of: int) -> None:
        """The answer that has been under way longest."""
        path, stamp, events = self._under_way.popleft()
        try:
            self._index.keep(path, stamp, events.embeddings().array[0])
        except (InvalidMedia, InvalidParameter, MessageTooLarge) as error:  # damaged, or too large
            self._index.keep_out(path, stamp, error.message.removeprefix(_ONLY_INPUT))
        self._done += 1
        self._unwritten += 1
        if self._unwritten >= max(WRITE_EVERY, len(self._index) // 4):
            self._write()
            self._unwritten = 0
        if sys.stderr.isatty() and not self._quiet:
            sys.stderr.write(f"\r{self._done} of {of} pictures")
            sys.stderr.flush()

    def _conclude(self, new: int, changed: int, removed: int) -> None:
        if self._quiet:
            return
        if self._done and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        broken = self._index.broken()
        if new or changed or removed:
            count = len(self._index) - len(broken)
            console.note(f"{count} pictures: {new} new, {changed} changed, {removed} removed")
        for path, reason in list(broken.items())[:3]:
            console.note(f"left out: {path}: {reason}")
        if len(broken) > 3:
            console.note(f"left out: {len(broken) - 3} more")
