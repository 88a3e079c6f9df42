"""Variables of older servers: told, never read, and on the pages of their doors."""

from __future__ import annotations

from pathlib import Path

from nsedge.config.declared import KEYS
from nsedge.config.elsewhere import INSTEAD, unread

DOORS = Path(__file__).parents[3] / "docs" / "doors"


def test_each_that_is_set_is_told_with_what_to_set_instead() -> None:
    assert list(unread({"API_PORT": "1", "STREAMING_DELAY": "0.05", "HOST": "x"})) == [
        "API_PORT is not read: web.port is the setting, and NSEDGE_WEB_PORT its variable",
        "STREAMING_DELAY is not read: no text is ever held back for a time",
    ]
    assert not list(unread({"API_PORT": "1", "NSEDGE_WEB_PORT": "2"}))
    assert len(list(unread(dict.fromkeys(INSTEAD, "1")))) == len(INSTEAD)


def test_the_pages_tell_them_all() -> None:
    assert {path for path in INSTEAD.values() if path} <= set(KEYS)
    pages = "".join(path.read_text(encoding="utf-8") for path in DOORS.glob("*.md"))
    assert [variable for variable in INSTEAD if f"`{variable}`" not in pages] == []
