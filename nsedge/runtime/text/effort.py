"""How hard a model is to think, in the words of its chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from jinja2 import nodes

from nsedge.api.tasks import EFFORTS
from nsedge.errors import InvalidParameter
from nsedge.runtime.text.answer.formats import thoughts_of

LEVEL = "reasoning_effort"
"""What templates call it that know levels, as gpt-oss's does."""
_SWITCHES = ("enable_thinking", "thinking")
"""What they call it that know on and off: Qwen's, DeepSeek's."""
_USUAL = frozenset({"low", "medium", "high"})
"""Levels that a template need not name, since it puts into the prompt what it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What a template has a place for.

    - levels: those it knows; none where it knows no levels.
    - switches: its variables for on and off.
    - thinks: it knows the marks of thoughts, which may come whatever it is told.
    """

    levels: frozenset[str]
    switches: tuple[str, ...]
    thinks: bool

    @classmethod
    def of(cls, tree: nodes.Template, source: str) -> Self:
        """As a template's syntax tree and source have it."""
        names = {node.name for node in tree.find_all(nodes.Name)}
        told = {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
        return cls(
            levels=_USUAL | (told & set(EFFORTS)) if LEVEL in names else frozenset(),
            switches=tuple(name for name in _SWITCHES if name in names),
            thinks=thoughts_of(source) is not None,
        )

    def variables(self, effort: str | None) -> dict[str, Any]:
        """What the template is told for `effort`.

        Raises:
            InvalidParameter: it has no place for that.
        """
        if effort is None:
            return {}
        on = effort != "none"
        switched = dict.fromkeys(self.switches, on)
        if effort in self.levels:
            return {**switched, LEVEL: effort}
        if switched and not (self.levels and on):
            return switched
        if self.levels:
            known = [level for level in EFFORTS if level in self.levels]
            why = f"this model's chat template knows {', '.join(known)}, not {effort}"
        elif on or self.thinks:
            why = "this model's chat template has no place for it"
        else:
            return {}
        raise InvalidParameter(f"{LEVEL}: {why}", param=LEVEL)
