"""The voice detector of speech bundles: Silero's, MIT, out of a package that stays uninstalled."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from exporters.cache import Cache
from exporters.errors import ExportError
from exporters.model.wheels import Wheel

VOICE_FILE = "voice/model.onnx"
"""In a bundle."""
VOICE_LICENCE_FILE = "voice/LICENSE"
_WHEEL = Wheel(
    package="silero-vad",
    version="6.2.3",
    file="silero_vad-6.2.3-py3-none-any.whl",
    sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    size="11 MB",
)
_MEMBERS = {
    VOICE_FILE: (
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
    ),
    VOICE_LICENCE_FILE: (
        "silero_vad-6.2.3.dist-info/licenses/LICENSE",
        "2e63e9a38b6e8fc0c7bc37ce174caca1862870856c6daf5697cfb785e925520b",
    ),
}
"""Each file's place in the wheel, and its SHA-256."""


def voice_files(cache: Cache) -> dict[str, Path]:
    """The detector's files by their names in a bundle, from the cache where they are there.

    Raises:
        ExportError: the package cannot be had, or is not the one we know.
    """

    def make(folder: Path) -> None:
        with zipfile.ZipFile(_WHEEL.fetch(cache)) as archive:
            for name, (member, sha256) in _MEMBERS.items():
                content = archive.read(member)
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise ExportError(f"{_WHEEL.file}: {member} is not the file we know")
                target = folder / name
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(content)

    inputs = {"files": {name: sha256 for name, (_, sha256) in _MEMBERS.items()}}
    folder = cache.get("voice", inputs, title="Unpacking the voice detector", make=make)
    return {name: folder / name for name in _MEMBERS}
