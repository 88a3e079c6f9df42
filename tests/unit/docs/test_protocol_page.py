"""docs/protocol.md and the code say the same."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import types
import typing
from pathlib import Path

import msgspec
import pytest

from nsedge import api
from nsedge.api.found import MAX_ARRAY_BYTES
from nsedge.api.inputs import MAX_INPUTS
from nsedge.ipc import limits, messages, protocol

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
HEADER = "| Field | Type | Unit | Required | Since | Meaning |"
TYPES = [
    api.Sampling,
    api.Logprobs,
    api.TokenLogprob,
    api.Label,
    api.Filling,
    api.DynamicTemperature,
    api.Xtc,
    api.Dry,
    api.Mirostat,
    api.AdaptiveP,
    api.Constraint,
    api.ExtraFile,
    messages.Message,
    api.Tool,
    api.ToolCall,
    messages.TextPart,
    messages.MediaPart,
    api.Word,
    api.PictureRecord,
    api.Usage,
    api.Timings,
    api.ModelInfo,
    api.ModelCard,
    api.PromptReading,
    api.Health,
    api.Stats,
    api.ModelStats,
    api.ModelTimes,
    api.Histogram,
    api.ModelMemory,
    api.ResidencyStats,
    api.LoadResult,
    api.UsageReport,
    api.ModelUsage,
    api.Recommendation,
]
ENUMS = [
    api.Role,
    api.SamplerStep,
    api.ConstraintKind,
    api.Priority,
    api.FinishReason,
    api.ToolChoice,
    api.Activation,
    api.Aggregation,
    api.ModelState,
    api.LoadOutcome,
    api.SoundForm,
    api.Mark,
    api.HealthStatus,
]
WORDS = {str: "string", int: "integer", float: "float", bool: "boolean", bytes: "binary"}
UNITS = {"_s": "seconds", "_bytes": "bytes", "_tokens": "tokens"}


def wire_types() -> list[type[msgspec.Struct]]:
    union = messages.ClientMessage | messages.ServerMessage
    return list(typing.get_args(union))


def tag(struct: type[msgspec.Struct]) -> str:
    return str(struct.__struct_config__.tag)


def tables() -> dict[str, list[list[str]]]:
    found = {}
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        name = section.splitlines()[0].strip()
        lines = section.splitlines()
        if HEADER in lines:
            rows = lines[lines.index(HEADER) + 2 :]
            end = next((n for n, row in enumerate(rows) if not row.startswith("|")), len(rows))
            found[name] = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[:end]]
    return found


def word(kind: object) -> str:
    if typing.get_origin(kind) is typing.Annotated:
        return word(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        some = [word(arg) for arg in typing.get_args(kind) if arg is not type(None)]
        return " or ".join(some)
    if typing.get_origin(kind) is typing.Literal:
        (one,) = typing.get_args(kind)
        return word(type(one))
    if typing.get_origin(kind) is tuple:
        return f"array of {word(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) is dict:
        key, value = typing.get_args(kind)
        return f"map of {word(key)} to {word(value)}"
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))  # type: ignore[call-overload]


def expected(kind: type) -> list[tuple[str, str, str]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    if issubclass(kind, msgspec.Struct):
        items = [(item.name, item.required) for item in msgspec.structs.fields(kind)]
    else:
        items = [
            (
                item.name,
                item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING,
            )
            for item in dataclasses.fields(kind)
        ]
    return [(name, word(hints[name]), "yes" if need else "no") for name, need in items]


@pytest.mark.parametrize("kind", wire_types(), ids=tag)
def test_every_message_has_its_table(kind: type[msgspec.Struct]) -> None:
    check(tag(kind), kind)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_every_type_has_its_table(kind: type) -> None:
    check(kind.__name__, kind)


def check(name: str, kind: type) -> None:
    rows = tables()[name]
    assert [(row[0], row[1], row[3]) for row in rows] == expected(kind)
    for field, form, unit, _, since, meaning in rows:
        major, minor = map(int, since.split("."))
        assert (major, minor) <= tuple(map(int, protocol.VERSION.split("."))), field
        assert meaning, field
        for suffix, expected_unit in UNITS.items():
            if field.endswith(suffix) and form != "boolean":
                assert unit == expected_unit, field


def test_no_table_is_left_over() -> None:
    known = {tag(kind) for kind in wire_types()} | {kind.__name__ for kind in TYPES}
    assert set(tables()) == known


def test_types_reachable_from_messages_are_all_listed() -> None:
    seen: set[type] = set()

    def walk(kind: object) -> None:
        for arg in typing.get_args(kind):
            walk(arg)
        if inspect.isclass(kind) and kind not in seen:
            if issubclass(kind, enum.Enum):
                seen.add(kind)
            elif issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind):
                seen.add(kind)
                for hint in typing.get_type_hints(kind, include_extras=True).values():
                    walk(hint)

    for message in wire_types():
        walk(message)
    assert seen - set(wire_types()) == {*TYPES, *ENUMS}


@pytest.mark.parametrize("kind", ENUMS, ids=lambda kind: kind.__name__)
def test_every_enumeration_is_listed(kind: type[enum.StrEnum]) -> None:
    assert f"| {kind.__name__} | {', '.join(kind)} |" in PAGE


def test_the_page_names_the_version_and_the_magic() -> None:
    assert f"Version **{protocol.VERSION}**" in PAGE
    assert f"the eight bytes `{protocol.MAGIC.decode()}`" in PAGE
    assert f"nsedge/{protocol.MAJOR}".encode() == protocol.MAGIC
    assert protocol.VERSION.split(".")[0] == str(protocol.MAJOR)


def test_the_page_names_the_default_limits() -> None:
    default = limits.Limits()
    text = " ".join(PAGE.split())
    assert f"up to {default.max_frames} payloads" in text
    assert f"waited {default.stall_s:g} s for credit" in text
    assert f"more than {default.max_pending_bytes // limits.MIB} MiB waiting" in text
    assert f"at most {MAX_ARRAY_BYTES // limits.KIB} KiB of data" in text
    assert f"1 to {MAX_INPUTS:,}, none empty" in text
    assert f"silence of {default.stall_s:g} s (`upload_stalled`)" in text
    assert f"of which there are at most {default.max_uploads}" in text
    assert f"leaves {default.max_unsent_messages:,} messages unread" in text
