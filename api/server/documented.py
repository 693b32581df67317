"""Structs of answers and bodies: msgspec writes and checks them, and they are in the OpenAPI document.

Routes name them where FastAPI expects a pydantic model, such as `response_model=`; where they write a part of the
document themselves, `reference_to` stands for the schema.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from pydantic import Field
from pydantic_core import core_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REF = "#/components/schemas/{name}"
_MARK = "x-struct"
"""Stands for `$ref` until pydantic has made the document: it takes no references but its own."""
_SAID = ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern", "description", "examples")


class Documented(msgspec.Struct, frozen=True):
    """An answer, or a part of one."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        """Let pydantic check values of this type by msgspec."""
        return core_schema.no_info_plain_validator_function(lambda value: msgspec.convert(value, cls))

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        """Let pydantic's JSON schema refer to the struct."""
        return reference_to(cls)


class RequestBody(Documented, frozen=True, forbid_unknown_fields=True):
    """A request body. Unknown fields are refused, so that a typing error does not go unnoticed.

    `hints` say, by field, what the values inside of it look like: for errors.
    """

    hints: ClassVar[Mapping[str, str]] = {}


def reference_to(struct: type[Documented]) -> dict[str, Any]:
    """Return what stands for a struct's schema in a document until `with_structs` has completed it."""
    return {_MARK: struct.__name__}


def field_of(meta: msgspec.Meta) -> Any:
    """Return the limits and texts of msgspec's for pydantic, which checks the parameters of paths and queries."""
    said = {name: getattr(meta, name) for name in _SAID if getattr(meta, name) is not None}
    return Field(**portable(said))


def with_structs(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document with the schemas of the structs that it refers to."""
    known = {struct.__name__: struct for struct in _subclasses(Documented)}
    named: set[str] = set()
    document = _referring(document, named)
    _, schemas = msgspec.json.schema_components([known[name] for name in sorted(named)], ref_template=_REF)
    document["components"]["schemas"] |= {name: portable(schema) for name, schema in schemas.items()}
    return document


def portable(schema: Any) -> Any:
    r"""Return a schema for readers that are not Python: no `\Z` in patterns, no indents of docstrings."""
    if isinstance(schema, dict):
        return {name: _TEXTS.get(name, portable)(value) for name, value in schema.items()}
    return [portable(one) for one in schema] if isinstance(schema, list) else schema


def _portable_pattern(pattern: Any) -> Any:
    return pattern.replace(r"\Z", "$") if isinstance(pattern, str) else portable(pattern)


def _portable_description(text: Any) -> Any:
    return inspect.cleandoc(text) if isinstance(text, str) else portable(text)


# A schema may also have a property of such a name: then the value is a schema.
_TEXTS: dict[str, Callable[[Any], Any]] = {"pattern": _portable_pattern, "description": _portable_description}


def _subclasses(struct: type[Documented]) -> Iterator[type[Documented]]:
    for subclass in struct.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _referring(part: Any, named: set[str]) -> Any:
    """Return a part of a document with references in place of marks, and collect their names."""
    if isinstance(part, list):
        return [_referring(one, named) for one in part]
    if not isinstance(part, dict):
        return part
    if _MARK in part:
        named.add(part[_MARK])
        part = {"$ref": _REF.format(name=part[_MARK])}
    return {name: _referring(value, named) for name, value in part.items()}
