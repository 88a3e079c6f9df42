"""How events leave the threads that make them."""

from __future__ import annotations

from collections.abc import Callable

from nsedge.api import Event

Emit = Callable[[Event], None]
"""Takes the events of one request, on the event loop's thread."""
Deliver = Callable[[list[tuple[Emit, Event]]], None]
"""Takes events, each with whom it is for, from any thread; never blocks. Raises RuntimeError once
nobody listens any more."""
