"""`nsedge gen image --prompt TEXT`: pictures of a prompt, as files."""

from __future__ import annotations

import argparse
import errno
import os
import tempfile
from pathlib import Path

import msgspec

from nsedge.api import Event, Imagine, Loading, Picture, Progress
from nsedge.api.collecting import Collecting
from nsedge.api.imagine import ImagineFields
from nsedge.cli import output
from nsedge.cli.exits import ExitStatus
from nsedge.cli.pictures import read_picture
from nsedge.cli.scheduling import scheduling_of
from nsedge.cli.several import default_model
from nsedge.config.reader import Loaded
from nsedge.errors import NsedgeError
from nsedge.ipc import reach
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Make the pictures, and write each as it is done."""
    if options.out is not None:
        _check_place(Path(options.out))
    found, several = Collecting(), (options.count or 1) > 1
    with reach.to_core(loaded.settings) as client:
        model = options.model or default_model(
            client,
            "",
            task=Imagine.name,
            missing="no model here makes pictures: nsedge-export model makes one",
        )
        try:
            with client.imagine(model, options.prompt_text, **_asked(options)) as events:
                for event in events:
                    found.saw(event)
                    if isinstance(event, Picture):
                        _show(event, options, several=several)
                    elif not options.quiet:
                        _tell(event)
        finally:
            console.status("")
    found.collected()
    return ExitStatus.OK


def _asked(options: argparse.Namespace) -> ImagineFields:
    """What the flags say beside the prompt."""
    width, height = options.size or (None, None)
    return {
        **_start(options),
        "negative_prompt": options.negative_prompt or "",
        "width": width,
        "height": height,
        "steps": options.steps,
        "guidance": options.guidance,
        "guidance_rescale": options.guidance_rescale or 0.0,
        "scheduler": options.scheduler,
        "seed": options.seed,
        "count": 1 if options.count is None else options.count,
        **scheduling_of(options),
    }


def _start(options: argparse.Namespace) -> ImagineFields:
    """What the flags say of a picture that others go on from."""
    start: ImagineFields = {}
    if options.image is not None:
        start["image"] = read_picture(options.image)
    if options.mask is not None:
        start["mask"] = read_picture(options.mask)
    if options.strength is not None:
        start["strength"] = options.strength
    return start


def _show(picture: Picture, options: argparse.Namespace, *, several: bool) -> None:
    """Write a picture to its file, and tell of it."""
    path = _place(picture, options.out, several=several)
    _write(path, picture.data)
    record = picture.record
    if options.json:
        output.say_json({"file": str(path), "record": msgspec.to_builtins(record)})
    else:
        output.say(
            f"{path}: {record.width} x {record.height}, seed {record.seed}, {record.steps} steps by"
            f" {record.scheduler}\n"
        )


def _check_place(path: Path) -> None:
    """Refuse a place where no file can be, before a picture is made for it."""
    if not path.parent.is_dir():
        raise NsedgeError(f"{path}: {os.strerror(errno.ENOENT)}")
    if path.is_dir():
        raise NsedgeError(f"{path}: {os.strerror(errno.EISDIR)}")


def _place(picture: Picture, out: str | None, *, several: bool) -> Path:
    """Where a picture goes: the named file, with its number where there are several."""
    if out is None:
        return Path(f"seed-{picture.record.seed}.png")
    path = Path(out)
    return path.with_name(f"{path.stem}-{picture.index}{path.suffix}") if several else path


def _write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise NsedgeError(f"{path}: {error.strerror}") from error


def _tell(event: Event) -> None:
    if isinstance(event, Loading):
        console.status(f"loading {event.model} {event.progress:.0%}")
    elif isinstance(event, Progress) and event.total:
        console.status(f"step {event.done:.0f} of {event.total:.0f}")
