"""Reading the configuration anew while the daemon runs: what changed, and what of it can."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from nsedge.cli.signals import ReloadRequests
from nsedge.config.declared import KEYS
from nsedge.config.reader import Loaded
from nsedge.config.settings import Settings
from nsedge.errors import NsedgeError
from nsedge.process.sdnotify import Notifier

log = logging.getLogger(__name__)

Reread = Callable[[], Loaded]
"""Reads the configuration from where it came. Raises ConfigInvalid."""
Apply = Callable[[Settings], Awaitable[str]]
"""Takes over settings that can change, and looks at the files they name; what came of it, in words,
empty where nothing did. Raises NsedgeError where something cannot be had."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Settings that differ, by name: those to take over now, and those that need a restart."""

    applied: tuple[str, ...]
    deferred: tuple[str, ...]

    def in_words(self) -> str:
        """For the status line and the log; empty where nothing differs."""
        parts = []
        if self.applied:
            parts.append(f"changed {', '.join(self.applied)}")
        if self.deferred:
            parts.append(f"a restart is needed for {', '.join(self.deferred)}")
        return "; ".join(parts)


class Reloader:
    """Follows requests to reload, and tells the supervisor of each how it begins and ends.

    - ours: the tables, and single settings, that this process goes by.
    - live: the settings that can change while it runs.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        reread: Reread,
        notifier: Notifier,
        ours: Set[str],
        live: Set[str],
        apply: Apply,
    ) -> None:
        self.settings = settings
        self._reread = reread
        self._notifier = notifier
        self._ours = ours
        self._live = live
        self._apply = apply

    async def follow(self, requests: ReloadRequests) -> None:
        """Reload whenever that is asked for. Never ends."""
        while True:
            await requests.wanted.wait()
            requests.wanted.clear()
            self._notifier.reloading("reading the configuration anew")
            words = await self.reload()
            log.info("reloaded", extra={"result": words})
            self._notifier.ready(words)

    async def reload(self) -> str:
        """Take over what can change, and say what came of it. What cannot be changes nothing."""
        try:
            after = self._reread().settings
            changes = compare(self.settings, after, ours=self._ours, live=self._live)
            self.settings = take_over(self.settings, after, changes)
            said = await self._apply(self.settings)
        except NsedgeError as error:
            log.error("not reloaded: %s", error.message)
            return f"not reloaded: {error.message}"
        return "; ".join(filter(None, (changes.in_words(), said))) or "nothing changed"


def compare(before: Settings, after: Settings, *, ours: Set[str], live: Set[str]) -> Changes:
    """The differences of tables and settings that are `ours`; `live` are those to apply."""
    names = [
        path
        for path in KEYS
        if {path, path.partition(".")[0]} & ours and _value(before, path) != _value(after, path)
    ]
    return Changes(
        applied=tuple(name for name in names if name in live),
        deferred=tuple(name for name in names if name not in live),
    )


def take_over(before: Settings, after: Settings, changes: Changes) -> Settings:
    """`before` with what of `after` applies now, so that the rest still differs next time."""
    for path in changes.applied:
        section, _, name = path.partition(".")
        table = replace(getattr(before, section), **{name: _value(after, path)})
        before = replace(before, **{section: table})
    return before


def _value(settings: Settings, path: str) -> Any:
    section, found, name = path.partition(".")
    return getattr(getattr(settings, section), name) if found else getattr(settings, section)
