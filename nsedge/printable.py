"""Text that others chose, on its way to a terminal or the log: no control character is printed raw.

A control character moves the cursor, ends a line or turns the writing round: with one in a name,
what a person reads is not what is there.
"""

from __future__ import annotations

import re

_CONTROL_CHARACTERS = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: tabs, line ends, ESC
    "\u2028\u2029"  # line and paragraph separators
    "\u202a-\u202e\u2066-\u2069"  # what turns the order of writing round
    "\ud800-\udfff"  # bytes that were no text
)
_CONTROLS = re.compile(f"[{_CONTROL_CHARACTERS}]")
PRINTABLE = rf"^[^{_CONTROL_CHARACTERS}]*\Z"
"""What text without a control character matches, as a regular expression."""
PRINTABLE_IN_JSON = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*$"
"""The same as JSON Schema has it, whose texts have no lone surrogates."""
_ABOVE_ASCII = re.compile(f"(?![\x00-\x1f]){_CONTROLS.pattern}")


def is_printable(text: str) -> bool:
    """Whether `text` holds no control character."""
    return _CONTROLS.search(text) is None


def escaped(text: str) -> str:
    r"""`text` on one line: each control character as Python writes it, such as \x1b or \n."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def escaped_json(encoded: str) -> str:
    """A JSON text that no reader, and no terminal, finds a control character in.

    JSON itself escapes only those below U+0020.
    """
    return _ABOVE_ASCII.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded)
