"""Mappings with known keys: each key's meaning, shape and default stand in one place.

Owns unknown, missing and reserved keys. Must not know any particular key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from regsim.core.suggest import closest, did_you_mean
from regsim.scenario.positions import Entries, Rejected, Scalar, YamlNode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regsim.scenario.shapes import Fields, JsonSchema, Reader, Shape

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that may be written. `default` says in words what its absence means."""

    doc: str
    shape: Shape[Any]
    required: bool = False
    default: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Generic[T]):
    """A mapping with known keys.

    Attributes:
        noun: how mistakes call it.
        keys: what may be written.
        build: makes the value from the fields that were written. It may note further problems.
        one_of: exactly one of these keys must be written.
        reserved: keys whose place is kept for a later version.
        reserved_forms: such keys that turn the table into something else; what is beside them is not
            judged, so that the user is told one thing.
    """

    noun: str
    keys: Mapping[str, Key]
    build: Callable[[Fields, Entries, Reader], T]
    one_of: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()
    reserved_forms: tuple[str, ...] = ()

    def read(self, node: YamlNode, reader: Reader) -> T:
        """Return the value that the keys describe."""
        entries = self._entries(node, reader)
        fields, whole = self.fields(entries, reader)
        if not whole:
            raise Rejected
        return self.build(fields, entries, reader)

    def fields(self, entries: Entries, reader: Reader) -> tuple[Fields, bool]:
        """Return the fields that could be read, and whether that is all that had to be."""
        fields: Fields = {}
        whole = self._complete(entries, reader)
        for key, value in entries.entries:
            known = self.keys.get(key.text)
            if known is None:
                self._unknown(key, reader)
                whole = False
                continue
            try:
                fields[key.text] = known.shape.read(value, reader)
            except Rejected:
                whole = False
        return fields, whole

    def _entries(self, node: YamlNode, reader: Reader) -> Entries:
        if isinstance(node, Scalar) and node.is_null and not self.one_of and not self._required():
            # "ci:" with nothing after it says the same as "ci: {}".
            return Entries(entries=(), where=node.where)
        if not isinstance(node, Entries):
            reader.wrong(node, self.noun)
            raise Rejected
        for key, _ in node.entries:
            if key.text in self.reserved_forms:
                reader.problems.reject(key.where, f'"{key.text}" is not available yet')
        return node

    def _unknown(self, key: Scalar, reader: Reader) -> None:
        if key.text in self.reserved:
            reader.problems.add(key.where, f'"{key.text}" is not available yet')
            return
        if key.text == "<<":
            hint = "YAML 1.2 has no merge keys; write the keys out"
        else:
            hint = did_you_mean(key.text, self.keys)
        reader.problems.add(key.where, f'unknown key "{key.text[:80]}"', hint)

    def _required(self) -> tuple[str, ...]:
        return tuple(name for name, key in self.keys.items() if key.required)

    def _complete(self, entries: Entries, reader: Reader) -> bool:
        written = [key for key, _ in entries.entries if key.text in self.one_of]
        missing = [name for name in self._required() if entries.get(name) is None]
        # A mistyped key is told as such; that the right one is lacking follows from it.
        mistyped = {closest(key.text, self.keys) for key, _ in entries.entries if key.text not in self.keys}
        for name in missing:
            if name in mistyped:
                continue
            reader.problems.add(entries.where, f'{self.noun} lacks the key "{name}"')
        if self.one_of and not written:
            if mistyped.isdisjoint(self.one_of):
                reader.problems.add(entries.where, f"{self.noun} needs one of {_words(self.one_of)}")
            return False
        for extra in written[1:]:
            first = written[0].text
            reader.problems.add(
                extra.where, f'{self.noun} has "{first}" already', f'"{extra.text}" excludes it'
            )
        return not missing and len(written) <= 1

    def schema(self) -> JsonSchema:
        """An object with these properties and no others."""
        schema: JsonSchema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: _described(key) for name, key in self.keys.items()},
        }
        if required := self._required():
            schema["required"] = list(required)
        if self.one_of:
            schema["oneOf"] = [{"required": [name]} for name in self.one_of]
        elif not required:
            schema["type"] = ["object", "null"]
        return schema


AnyTable: TypeAlias = "Table[Any]"


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _described(key: Key) -> JsonSchema:
    default = f" Default: {key.default}." if key.default else ""
    return {"description": f"{key.doc}.{default}", **key.shape.schema()}
