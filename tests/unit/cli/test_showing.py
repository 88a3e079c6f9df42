"""Paths that are dragged into a conversation, as terminals write them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from nsedge.cli.showing import dragged
from nsedge.errors import InvalidParameter
from tests.films import animation, film, still

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
OPTIONS = Namespace(fps=None, frames=4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my quay.png").write_bytes(PNG)
    (tmp_path / "a.mp4").write_bytes(film(3))
    (tmp_path / "moves.gif").write_bytes(animation(3))
    still(1).save(tmp_path / "still.gif")
    (tmp_path / "notes.txt").write_bytes(b"x")
    (tmp_path / "broken.mp4").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "text", "kinds"),
    [
        ("{}/my\\ quay.png", "", ["image"]),
        ("'{}/my quay.png'", "", ["image"]),
        ("{}/my quay.png", "", ["image"]),
        ("file://{}/my%20quay.png", "", ["image"]),
        ("What's this? {}/my\\ quay.png", "What's this?", ["image"]),
        ('"{}/my quay.png" or {}/a.mp4  which?', "or which?", ["image", "video"]),
        ("a.mp4", "", ["video"]),
        ("moves.gif", "", ["video"]),
        ("still.gif", "", ["image"]),
        ("notes.txt", "notes.txt", []),
        ("none.png and 'this  one'", "none.png and 'this  one'", []),
        ("/reset", "/reset", []),
        ("It's  \\ 'odd", "It's  \\ 'odd", []),
        ("\0.png", "\0.png", []),
        ("~nobody-here/x.png", "~nobody-here/x.png", []),
    ],
)
def test_a_path_of_a_media_file_is_shown(
    folder: Path, line: str, text: str, kinds: list[str]
) -> None:
    left, parts = dragged(line.replace("{}", str(folder)), OPTIONS)
    assert (left, [part.media.kind for part in parts]) == (text, kinds)
    assert all(part.frames == (4 if part.media.kind == "video" else None) for part in parts)


def test_a_file_that_is_not_what_its_name_says_is_told(folder: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"broken\.mp4 is no MP4"):
        dragged("broken.mp4", OPTIONS)
