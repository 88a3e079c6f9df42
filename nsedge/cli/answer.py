"""One answer, streamed: its text or its events, and its figures."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nsedge.api import Delta, Failed, Finished, FinishReason, Loading, MediaRead
from nsedge.cli import output
from nsedge.cli.exits import ExitStatus
from nsedge.cli.pace import Pace
from nsedge.errors import ConnectionLost
from nsedge.ipc.client import Events
from nsedge.process import console


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a request."""

    text: str
    reason: FinishReason

    @property
    def status(self) -> ExitStatus:
        """The exit status a command ends with."""
        cancelled = self.reason is FinishReason.CANCELLED
        return ExitStatus.INTERRUPTED if cancelled else ExitStatus.OK


def show(events: Events, *, as_json: bool, quiet: bool) -> Answer:
    """Stream `events` to standard output. Ctrl-C cancels and waits for the end; again, it leaves.

    Raises:
        NsedgeError: what the service refused the request or broke off with.
        KeyboardInterrupt: at the second Ctrl-C.
    """
    stream = _Stream(events, as_json=as_json, quiet=quiet)
    try:
        end = stream.until_end()
    except KeyboardInterrupt:
        events.cancel()
        end = stream.until_end()
    if as_json:
        output.say_json({**output.event_object(end), "seen": stream.pace.figures(end)})
    else:
        output.say("" if stream.text.endswith("\n") else "\n")
        if not quiet:
            console.note(stream.pace.line(end))
    return Answer(text=stream.text, reason=end.reason)


class _Stream:
    """Shows events as they come, and remembers where it was interrupted."""

    def __init__(self, events: Events, *, as_json: bool, quiet: bool) -> None:
        self.pace = Pace(time.monotonic)
        self.text = ""
        self._events = events
        self._as_json = as_json
        self._quiet = quiet or as_json
        self._told_loading = False

    def until_end(self) -> Finished:
        for event in self._events:
            self.pace.saw(event)
            if isinstance(event, Finished):
                return event
            if isinstance(event, Failed):
                self._end_line()
                raise event.error()
            if isinstance(event, Loading):
                self._tell_loading(event)
            if isinstance(event, MediaRead) and not self._quiet:
                console.note(f"{event.place}: {event.text} ({event.model})")
            if isinstance(event, Delta):
                self.text += event.text
            if self._as_json:
                output.say_json(output.event_object(event))
            elif isinstance(event, Delta):
                output.say(event.text)
        raise ConnectionLost("the stream ended without its last event")

    def _tell_loading(self, event: Loading) -> None:
        if not self._quiet and not self._told_loading:
            before = f", {event.position} before it" if event.position else ""
            console.note(f"loading {event.model}{before} ...")
            self._told_loading = True

    def _end_line(self) -> None:
        if self.text and not self._as_json and not self.text.endswith("\n"):
            output.say("\n")
