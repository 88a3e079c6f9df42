"""Tools that a model may call, and the calls it made."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nsedge.errors import InvalidParameter

MAX_TOOLS = 256
MAX_DEPTH = 64
NAME = "[A-Za-z0-9_.:/-]{1,128}"
"""What a tool may be called, as a regular expression."""


class ToolChoice(enum.StrEnum):
    """Whether the model calls tools."""

    AUTO = "auto"
    """As it sees fit."""
    NONE = "none"
    """It does not, and is not told of any."""
    REQUIRED = "required"
    """At least one, or the one named by `Chat.tool_name`."""


class ToolFormat(enum.StrEnum):
    """How a model writes calls; docs/tools.md shows each."""

    HERMES = "hermes"
    LLAMA = "llama"
    MISTRAL = "mistral"
    PHI = "phi"
    FUNCTIONARY = "functionary"
    PARAMETERS = "parameters"
    LFM2 = "lfm2"
    DEEPSEEK = "deepseek"
    DEEPSEEK_V3_1 = "deepseek-v3.1"
    KIMI = "kimi"
    HARMONY = "harmony"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call.

    - function: `name`, and as a rule `description` and `parameters`, a JSON schema of an object.
      The model's template gets it as it is, in its order.
    - strict: arguments are held to the schema. The template does not see it.
    """

    function: dict[str, Any]
    strict: bool = False

    @property
    def name(self) -> str:
        """What calls name."""
        return str(self.function["name"])

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of its arguments; of a tool without, one of an empty object."""
        return self.function.get("parameters") or {"type": "object", "properties": {}}

    @property
    def described(self) -> dict[str, Any]:
        """The tool as chat templates take it."""
        return {"type": "function", "function": self.function}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the assistant made. arguments: JSON, as a rule of an object."""

    id: str
    name: str
    arguments: str


def check_tools(tools: Sequence[Tool]) -> None:
    """Refuse tools that cannot be called.

    Raises:
        InvalidParameter: naming the tool and what is wrong with it.
    """
    if len(tools) > MAX_TOOLS:
        raise InvalidParameter(f"{len(tools)} tools are beyond {MAX_TOOLS}", param="tools")
    seen: set[str] = set()
    for number, tool in enumerate(tools):
        function, where = tool.function, f"tools[{number}].function"
        name = function.get("name")
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            raise InvalidParameter(
                f"{where}.name must be 1 to 128 letters, digits and any of _.:/-, not {name!a}",
                param="tools",
            )
        if name in seen:
            raise InvalidParameter(f"{where}.name: {name!r} is another tool's", param="tools")
        seen.add(name)
        if not isinstance(function.get("description"), str | None):
            raise InvalidParameter(f"{where}.description must be a text", param="tools")
        parameters = function.get("parameters")
        if parameters != [] and not isinstance(parameters, dict | None):
            raise InvalidParameter(f"{where}.parameters must be a JSON schema", param="tools")
        check_json(function, where, param="tools")


def check_json(value: Any, where: str, *, param: str) -> None:
    """Refuse what JSON does not have, integers beyond 64 bits, and nesting beyond MAX_DEPTH.

    Raises:
        InvalidParameter: naming `where` it is.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                if not all(isinstance(key, str) for key in one):
                    raise InvalidParameter(f"{where} has a key that is no text", param=param)
                below += one.values()
            elif isinstance(one, list | tuple):
                below += one
            elif isinstance(one, int) and not -(2**63) <= one < 2**64:
                raise InvalidParameter(f"{where} holds an integer beyond 64 bits", param=param)
            elif not isinstance(one, str | int | float | None):
                kind = type(one).__name__
                raise InvalidParameter(f"{where} holds {kind}, which is no JSON", param=param)
        if not below:
            return
        level = below
    raise InvalidParameter(f"{where} nests deeper than {MAX_DEPTH}", param=param)
