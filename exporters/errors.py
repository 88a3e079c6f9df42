"""What an export can fail of, in one line that says what to do."""

from __future__ import annotations


class ExportError(Exception):
    """The export cannot go on. The message is one line: what, and the remedy."""


class Refused(ExportError):
    """This model can never be exported as it stands; the message names the reason."""
