"""Integers that JSON writes with a fraction of zero: to JSON Schema `1.0` is one; pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect


def with_integers(value: Any, kind: type[msgspec.Struct]) -> Any:
    """`value`, decoded from JSON, as `kind` wants it: floats without a fraction are integers where
    it has these, and no floats. What it types as anything stays as it is."""
    return _with_integers(value, inspect.type_info(kind))


def integer_of(value: Any) -> int | None:
    """A value from JSON as an integer; None where it is none."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _with_integers(value: Any, kind: inspect.Type) -> Any:
    kind = _bare(kind)
    match kind:
        case inspect.IntType() if isinstance(value, float) and value.is_integer():
            return int(value)
        case inspect.UnionType():
            if isinstance(value, float) and any(
                isinstance(_bare(one), inspect.FloatType) for one in kind.types
            ):
                return value
            for one in kind.types:
                value = _with_integers(value, one)
        case inspect.StructType() if isinstance(value, dict):
            types = {field.encode_name: field.type for field in kind.fields}
            return {
                name: _with_integers(one, types[name]) if name in types else one
                for name, one in value.items()
            }
        case inspect.DictType() if isinstance(value, dict):
            return {name: _with_integers(one, kind.value_type) for name, one in value.items()}
        case inspect.ListType() | inspect.VarTupleType() if isinstance(value, list):
            return [_with_integers(one, kind.item_type) for one in value]
        case inspect.TupleType() if isinstance(value, list) and len(value) == len(kind.item_types):
            return [
                _with_integers(one, item) for one, item in zip(value, kind.item_types, strict=True)
            ]
    return value


def _bare(kind: inspect.Type) -> inspect.Type:
    """A type without what is noted of it."""
    return _bare(kind.type) if isinstance(kind, inspect.Metadata) else kind
