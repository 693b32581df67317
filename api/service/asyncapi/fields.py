"""A schema as rows of a table, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matches {}",
}


class Field(NamedTuple):
    """One field: its type, whether it has to be there, and what its values may be."""

    name: str
    type: str
    required: bool
    rule: str


def fields_of(schema: Mapping[str, Any]) -> list[Field]:
    """Return the fields of an object's schema, none of what is no object."""
    required = set(schema.get("required", ()))
    return [
        Field(name, _type_of(one), name in required, _rule_of(one))
        for name, one in schema.get("properties", {}).items()
    ]


def _type_of(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type_of(one) for one in schema["anyOf"])
    if "enum" in schema:
        return "text"
    if schema.get("type") == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    return str(schema.get("type", "any JSON"))


def _rule_of(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    parts = [words.format(schema[name]) for name, words in _BOUNDS.items() if name in schema]
    default = schema.get("default")
    if default not in (None, "", []):
        parts.append(f"left out: {default}")
    return ", ".join(parts)
