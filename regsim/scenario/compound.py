"""Shapes made of other shapes: lists, mappings from names, and choices by kind.

Owns going on after a mistake: an item that cannot be read does not keep the next from being read. Must not
know what any particular key means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from regsim.scenario.positions import Entries, Items, Rejected, Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regsim.scenario.positions import YamlNode
    from regsim.scenario.shapes import JsonSchema, Name, Parsed, Reader, Shape

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf(Generic[T]):
    """A list whose items have one shape. Items that do not are left out, and noted."""

    noun: str
    item: Shape[T]
    minimum: int = 0

    def read(self, node: YamlNode, reader: Reader) -> tuple[T, ...]:
        """Return the items."""
        if not isinstance(node, Items):
            reader.wrong(node, self.noun)
        if len(node.items) < self.minimum:
            reader.problems.reject(node.where, f"expected {self.noun}, found an empty list")
        found: list[T] = []
        for item in node.items:
            try:
                found.append(self.item.read(item, reader))
            except Rejected:
                continue
        if len(found) < len(node.items):
            raise Rejected
        return tuple(found)

    def schema(self) -> JsonSchema:
        """An array."""
        bound = {"minItems": self.minimum} if self.minimum else {}
        return {"type": "array", "items": self.item.schema(), **bound}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf(Generic[T]):
    """A mapping from names to values of one shape; `build` puts name and value together."""

    noun: str
    key: Name | Parsed[Any]
    value: Shape[Any]
    build: Callable[[Any, Any], T]
    minimum: int = 0

    def read(self, node: YamlNode, reader: Reader) -> Mapping[Any, T]:
        """Return the mapping, in file order."""
        if not isinstance(node, Entries):
            reader.wrong(node, self.noun)
        if len(node.entries) < self.minimum:
            reader.problems.reject(node.where, f"expected {self.noun}, found none")
        found: dict[Any, T] = {}
        for key, value in node.entries:
            try:
                name = self.key.read(key, reader)
            except Rejected:
                # The value is read all the same, for its mistakes.
                name = None
            try:
                found[name] = self.build(name, self.value.read(value, reader))
            except Rejected:
                continue
        if None in found or len(found) < len(node.entries):
            raise Rejected
        return found

    def schema(self) -> JsonSchema:
        """An object with any keys of the right pattern."""
        bound = {"minProperties": self.minimum} if self.minimum else {}
        return {
            "type": "object",
            "propertyNames": self.key.schema(),
            "additionalProperties": self.value.schema(),
            **bound,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ByKind(Generic[T]):
    """Shapes of different kinds: a scalar, a list or a mapping, told apart by what is there."""

    noun: str
    scalar: Shape[T] | None = None
    items: Shape[T] | None = None
    entries: Shape[T] | None = None

    def read(self, node: YamlNode, reader: Reader) -> T:
        """Return the value read by the shape of its kind."""
        shape = {Scalar: self.scalar, Items: self.items, Entries: self.entries}[type(node)]
        if shape is None or (isinstance(node, Scalar) and node.is_null):
            reader.wrong(node, self.noun)
        return shape.read(node, reader)

    def schema(self) -> JsonSchema:
        """Any of the shapes."""
        shapes = [shape.schema() for shape in (self.scalar, self.items, self.entries) if shape is not None]
        return {"anyOf": shapes}
