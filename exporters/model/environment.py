"""Which environment has the code of a model: that of Optimum, or that of transformers 5."""

from __future__ import annotations

from exporters.errors import Refused
from exporters.model.files import SHOWN
from exporters.model.source import Source
from nsedge.printable import escaped

NEWEST = 5
"""The major version of transformers in the environment of the extra `exporters-next`."""


def unknown_architecture(source: Source, installed: str) -> Refused:
    """The refusal of a model that the `installed` version of transformers has no code for.

    It names the environment that the model needs, by the version that its config.json was saved
    with, where that says more.
    """
    kind = escaped(str(source.config.get("model_type") or "")[:SHOWN])
    if not kind:
        return Refused(f"{source.folder / 'config.json'}: no model_type; which architecture is it?")
    saved = source.config.get("transformers_version")
    told = f"transformers {installed} does not know this architecture ({kind})"
    if _major(installed) >= NEWEST:
        return Refused(f"{told}; a newer release may")
    if _major(saved) >= NEWEST:
        told += f", which was saved with {escaped(str(saved)[:SHOWN])}"
    else:
        told += "; transformers 5 may"
    return Refused(f"{told}: install the extra exporters-next in an environment of its own")


def _major(stated: object) -> int:
    """The first number of a version; 0 where there is none."""
    number = str(stated).partition(".")[0]
    return int(number) if number.isdecimal() else 0
