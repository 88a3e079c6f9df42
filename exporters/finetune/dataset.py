"""Stage 1: rows of any known shape to examples in the base model's own words."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from exporters.code import code_digest
from exporters.errors import ExportError
from exporters.finetune.examples import report_path, validation_path
from exporters.finetune.making import DatasetOrder, Making, longest
from exporters.finetune.report import DatasetReport, read_report
from exporters.model.vision_lm import VisionSource
from exporters.outputs import stage_key
from exporters.progress import Progress
from nsedge.bundle.files import sha256_of


@dataclass(frozen=True, kw_only=True)
class Made:
    """The report of a finished dataset, and whether it was there before."""

    report: DatasetReport
    up_to_date: bool


def make_dataset(order: DatasetOrder, progress: Progress) -> Made:
    """Write the examples to learn from, those to validate with, and the report: all or none.

    Raises:
        ExportError: the input has no usable row, or with `strict` a bad one, or the output is
            something else.
        Refused: the base's template does not do.
        OSError: a file cannot be read or written.
    """
    train = order.output
    if len({path.resolve() for path in order.inputs}) < len(order.inputs):
        raise ExportError("an --input is given twice")
    digests = [sha256_of(path) for path in order.inputs]
    key = _key(order, digests)
    known = read_report(report_path(train))
    # Pictures are files of their own, which may have come, gone or changed: rows tell which.
    may_have_changed = isinstance(order.base, VisionSource)
    is_known = known is not None and known.key == key and _is_whole(train.parent, known)
    if known is not None and is_known and not may_have_changed:
        return Made(report=known, up_to_date=True)
    _check_place(order, known)
    with _scratch(train) as folder:
        report = Making(order, folder).run(progress, digests, key)
        if is_known and report == known:
            return Made(report=report, up_to_date=True)
        for path in (validation_path(train), train, report_path(train)):
            os.replace(folder / path.name, path)
    return Made(report=report, up_to_date=False)


def _key(order: DatasetOrder, digests: list[str]) -> str:
    reader = order.base.text_reader()
    return stage_key(
        {
            "inputs": digests,
            "names": [path.name for path in order.inputs],
            "base": [order.base.origin, order.base.revision],
            "tokenizer": sha256_of(order.base.tokenizer_file),
            "template": [reader.template, reader.bos_token, reader.eos_token, reader.add_bos],
            "shape": order.shape.value,
            "validation": order.validation,
            "seed": order.seed,
            "max_tokens": longest(order),
            "truncate": order.truncate,
            "system": order.system,
            "strict": order.strict,
            "code": code_digest(__name__),
        }
    )


def _is_whole(folder: Path, report: DatasetReport) -> bool:
    paths = {folder / name: digest for name, digest in report.files.items()}
    return all(path.is_file() and sha256_of(path) == digest for path, digest in paths.items())


def _check_place(order: DatasetOrder, known: DatasetReport | None) -> None:
    """An earlier dataset is replaced; another file, and above all an input, is not."""
    outputs = [order.output, validation_path(order.output), report_path(order.output)]
    for path in outputs:
        if path.exists() and any(path.samefile(given) for given in order.inputs):
            raise ExportError(f"{path} is an input; give another --output")
        if path.exists() and known is None and not order.replace:
            raise ExportError(f"{path} is there already and is another thing; --force replaces it")


@contextmanager
def _scratch(train: Path) -> Iterator[Path]:
    """An empty directory beside `train`, for one process at a time; a killed one's is reused."""
    train.parent.mkdir(parents=True, exist_ok=True)
    folder = train.with_name(f".{train.name}.part")
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(f"{train} is being written by another process") from error
        for left in folder.iterdir():
            left.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
