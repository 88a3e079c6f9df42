"""What `nsedge-export verify` answers of a bundle, whatever kind it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from exporters.answer import FAILURE, SUCCESS, Answer
from nsedge.bundle.manifest import Bundle


def verified(
    bundle: Bundle[Any],
    *,
    passed: bool,
    result: dict[str, Any],
    lines: Iterable[str],
    report: Path | None,
    pages: Callable[[], tuple[bytes, str]],
) -> Answer:
    """The answer of a check, and its report where one is wanted.

    Args:
        result: the check's own part of what programs read; lines: of what people do.
        report: the folder of the report; pages: its JSON and its page.

    Raises:
        ExportError: the report would lie within the bundle.
    """
    if report is not None:
        from exporters.measure.build_report import write_pages

        write_pages(*pages(), report.expanduser().absolute(), bundle=bundle.path)
    files = len(bundle.manifest.files)
    told = [
        f"{bundle.path}: {'passed' if passed else 'FAILED'}",
        f"  {files} files, every SHA-256 right",
        *lines,
    ]
    result = {"bundle": str(bundle.path), "files": files, **result}
    return result, told, SUCCESS if passed else FAILURE
