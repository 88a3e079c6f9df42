"""Types -> the JSON schemas that a document shares; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from nsedge.web.bodies import takes
from nsedge.web.door import JSON
from nsedge.web.hints import NULL, Rules, merged

_AT = "#/components/schemas/"
_FILE = {"type": "string", "format": "binary", "minLength": 1}
_SCALARS = frozenset({"string", "integer", "number", "boolean"})


class Types:
    """The schemas of `kinds`. Those that are `closed` take no fields but their own."""

    def __init__(self, kinds: Iterable[Any], *, closed: Collection[Any] = ()) -> None:
        kinds = tuple(_with_parts(kinds))
        schemas, components = msgspec.json.schema_components(kinds, ref_template=f"{_AT}{{name}}")
        self.components: dict[str, Any] = merged(components)
        self._of: dict[Any, dict[str, Any]] = {
            kind: merged(one) for kind, one in zip(kinds, schemas, strict=True)
        }
        for kind in kinds:
            if rules := _rules_of(kind):
                self._whole(kind)["allOf"] = [
                    self._rule(name, rule) for name, rule in rules.items()
                ]
        for kind in closed:
            self._whole(kind)["additionalProperties"] = False

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of `kind`, as a rule a reference to it."""
        return self._of[kind]

    def tell_parts(self, kind: Any, parts: Mapping[str, Any]) -> None:
        """Tell the types of the fields of `kind` that are read apart."""
        for name, part in parts.items():
            self._whole(kind)["properties"][name] = {"anyOf": [self.of(part), {"type": "null"}]}

    def texts_of(self, kind: Any) -> tuple[dict[str, Any], list[str]]:
        """The fields of `kind` that a text can be, those without lists and objects, and which of
        them are required: what a form or a query can have of it."""
        whole = self._whole(kind)
        fields = {
            name: scalar
            for name, told in whole["properties"].items()
            if (scalar := _scalar(told)) is not None
        }
        return fields, [name for name in whole.get("required", ()) if name in fields]

    def form_of(self, taken: takes) -> dict[str, Any]:
        """The form that is read so, with its files; its rules are told with the JSON body alone.
        Fields that no text can be are null."""
        fields, required = self.texts_of(taken.kind)
        told = self._whole(taken.kind)["properties"]
        fields = {name: _nullable(one) for name, one in fields.items()}
        lists = {name: told[name].get("anyOf", [told[name]])[0] for name in taken.lists}
        required += [name for name in self._whole(taken.kind).get("required", ()) if name in lists]
        files = dict.fromkeys(taken.files, _FILE)
        if JSON not in taken.types:
            required += files
        properties = dict.fromkeys(told, NULL) | fields | lists | files
        whole: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
        if taken.others is not None and taken.others.refuse_unknown:
            whole["additionalProperties"] = False
        return whole

    def _whole(self, kind: Any) -> dict[str, Any]:
        told: dict[str, Any] = self.components[self._of[kind]["$ref"].removeprefix(_AT)]
        return told

    def _rule(self, name: str, rule: dict[str, Any]) -> dict[str, Any]:
        """A reference to a rule, which is told once for all types that have it."""
        self.components[name] = rule
        return {"$ref": f"{_AT}{name}"}


def _with_parts(kinds: Iterable[Any]) -> Iterator[Any]:
    """The kinds, and the structs that they are made of."""
    seen = dict.fromkeys(kinds)
    todo: list[Any] = list(msgspec.inspect.multi_type_info(seen))
    found: dict[Any, None] = {}
    while todo:
        one = todo.pop()
        if isinstance(one, msgspec.inspect.StructType):
            if one.cls in found:
                continue
            found[one.cls] = None
        if isinstance(one, tuple | list):
            todo += one
        elif isinstance(one, msgspec.inspect.Type | msgspec.inspect.Field):
            todo += [getattr(one, name) for name in one.__struct_fields__]
    yield from seen | found


def _rules_of(kind: Any) -> dict[str, dict[str, Any]]:
    """The rules of a type and of those that it is made from, by name."""
    found: dict[str, dict[str, Any]] = {}
    for one in reversed(getattr(kind, "__mro__", ())):
        rules: Rules = vars(one).get("rules", ())
        for number, rule in enumerate(rules, start=1):
            found[f"{one.__module__}.{one.__qualname__}.rule{number}"] = rule
    return found


def _nullable(told: dict[str, Any]) -> dict[str, Any]:
    """A field of a form, of which `null` as text is none, but where it is itself a text."""
    kind = told.get("type")
    return told if kind in (None, "string") else told | {"type": [kind, "null"]}


def _scalar(told: dict[str, Any]) -> dict[str, Any] | None:
    """The first form of a field that one text can have; None where it has none."""
    options: list[dict[str, Any]] = told.get("anyOf", [told])
    for option in options:
        if option.get("type") in _SCALARS or "enum" in option:
            return option
    return None
