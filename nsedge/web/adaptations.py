"""How single models are prompted at doors that adapt prompts to them, as a file of JSON says.

`{"NAME": {"prefix": "[INST] ", "suffix": " [/INST]", "style": "structured"}}`
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from nsedge.errors import ConfigInvalid


class Adaptation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Around a model's prompts: `prefix` and `suffix`, which take the chat template's place, and
    the `style` in which wishes beside the prompt are put."""

    prefix: str = ""
    suffix: str = ""
    style: Literal["structured", "conversational"] = "conversational"

    @property
    def replaces_template(self) -> bool:
        """Whether prompts are made of prefix and suffix, and not by the chat template."""
        return bool(self.prefix or self.suffix)


Adaptations = dict[str, Adaptation]
"""By the name or alias of the model."""


def read_adaptations(path: Path) -> Adaptations:
    """Raises ConfigInvalid where the file cannot be read, or is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Adaptations)
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigInvalid(f"{path}: {error}") from error
