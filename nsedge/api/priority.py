"""Who goes first where not all can."""

from __future__ import annotations

import enum


class Priority(enum.StrEnum):
    """Who goes first where not all can run. Each gives way for a while only: nobody starves."""

    INTERACTIVE = "interactive"
    """Somebody is looking on. Takes the slot of a batch request where none is free."""
    NORMAL = "normal"
    BATCH = "batch"
    """Runs when there is room; may be interrupted, and goes on where it was."""
