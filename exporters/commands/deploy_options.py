"""Options that deploying, rolling back and listing share: which daemon, which store."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.answer import SUCCESS, Answer
from exporters.commands.options import add_json
from nsedge.runtime.hosting.golden_scores import Closeness
from nsedge.runtime.hosting.golden_vectors import Nearness

if TYPE_CHECKING:
    from exporters.deploy.deployment import Deployed, Yard
    from exporters.deploy.store import Store
    from exporters.progress import Progress
    from nsedge.config.settings import Settings
    from nsedge.runtime.hosting.golden import Agreement


def add_place(parser: argparse.ArgumentParser) -> None:
    """--to, --store, --config, --json. What they leave out comes from the daemon's own
    configuration and environment."""
    parser.add_argument(
        "--to", metavar="ENDPOINT", help="the daemon: ipc:///path or tcp://HOST:PORT"
    )
    parser.add_argument("--store", type=Path, metavar="DIR", help="its HOME/bundles")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="its configuration: endpoint, home, CURVE keys"
    )
    add_json(parser)


def add_offline(parser: argparse.ArgumentParser) -> None:
    """--offline."""
    parser.add_argument(
        "--offline", action="store_true", help="the daemon does not run: do it for its next start"
    )


def place(arguments: argparse.Namespace) -> tuple[Settings, Store]:
    """The daemon's settings, and its store.

    Raises:
        ConfigInvalid: naming file, variable or flag.
    """
    from exporters.deploy.store import Store
    from nsedge.config import reader as config

    said = (
        []
        if arguments.to is None
        else [config.Override(flag="--to", key="core.endpoint", text=arguments.to)]
    )
    settings = config.load(config.environment(), file=arguments.config, overrides=said).settings
    folder: Path = arguments.store or settings.bundles
    return settings, Store(folder.expanduser().absolute())


@contextmanager
def yard(arguments: argparse.Namespace, progress: Progress) -> Iterator[Yard]:
    """Where the command works.

    Raises:
        ExportError: no daemon there, or one where none should be.
        NsedgeError: a setting, or that it does not let us in.
    """
    from exporters.deploy.deployment import Yard
    from exporters.deploy.targets import running, stopped

    settings, store = place(arguments)
    with (stopped if arguments.offline else running)(settings, store, progress) as target:
        yield Yard(store=store, target=target, progress=progress)


def told(deployed: Deployed, *, offline: bool) -> Answer:
    """What came of it."""
    result = {
        "alias": deployed.alias,
        "model": deployed.model,
        "previous": deployed.previous,
        "changed": not deployed.unchanged,
        "copied": deployed.copied,
        "golden": None if deployed.agreement is None else dataclasses.asdict(deployed.agreement),
        "removed": list(deployed.removed),
    }
    return result, _lines(deployed, offline=offline), SUCCESS


def _lines(deployed: Deployed, *, offline: bool) -> list[str]:
    if deployed.unchanged:
        return [f"{deployed.alias} stands for {deployed.model} already: nothing was done"]
    when = "from the daemon's next start on" if offline else "now"
    before = "" if deployed.previous is None else f", before: {deployed.previous}"
    lines = [f"{deployed.alias} -> {deployed.model} {when}{before}"]
    if deployed.agreement is not None:
        lines.append(_agreed(deployed.agreement))
    return lines + [f"removed: {model}" for model in deployed.removed]


def _agreed(found: Agreement | Nearness | Closeness) -> str:
    if isinstance(found, Closeness):
        return (
            f"golden texts: {found.rows} rows of scores off by {found.greatest_error:.4f} at most"
            " from those of the fp32 model"
        )
    if isinstance(found, Nearness):
        return (
            f"golden texts: {found.texts} vectors with a cosine of {found.least_cosine:.4f} at"
            " least to those of the fp32 model"
        )
    return f"golden prompts: {found.agreed} of {found.tokens} tokens as the fp32 model had them"
