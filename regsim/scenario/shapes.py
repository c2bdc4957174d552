"""Shapes that values of a scenario file may have; each reads a value and describes itself to editors.

Owns reading with positions, wording of type mistakes, and JSON Schema. Must not know what any particular
key means: that is `format.py`. One definition serves the reader, the schema and the table of keys, so that
they cannot disagree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, Protocol, TypeAlias, TypeVar

from regsim.core.quantities import MAX_SIZE, SIZE_PATTERN, parse_size
from regsim.core.suggest import did_you_mean
from regsim.errors import UsageError
from regsim.scenario.positions import Entries, Items, Position, Problems, Scalar, YamlNode

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

JsonSchema: TypeAlias = dict[str, Any]
Fields: TypeAlias = dict[str, Any]

MAX_TEXT = 10_000


class Mention(NamedTuple):
    """A name that must be defined elsewhere in the file, and where it is used."""

    kind: str
    name: str
    where: Position


@dataclass(slots=True)
class Reader:
    """What one reading of a file has gathered: its mistakes, and the names that it uses.

    `directory` is the file's own, to which paths in it relate.
    """

    problems: Problems = field(default_factory=Problems)
    directory: Path = field(default_factory=Path)
    mentions: list[Mention] = field(default_factory=list)

    def text(self, node: YamlNode, noun: str) -> tuple[str, Position]:
        """Return a value that must be text, and be text to every YAML reader."""
        if not isinstance(node, Scalar) or node.is_null:
            self.wrong(node, noun)
        if not isinstance(node.value, str):
            self.problems.reject(
                node.where,
                f"{noun} must be text, found {describe(node)}",
                f'put it in quotes: "{node.text[:60]}"',
            )
        if node.is_ambiguous:
            self.problems.reject(
                node.where,
                f"{noun} must be text, but some readers take an unquoted {node.text[:60]} for something else",
                f'put it in quotes: "{node.text[:60]}"',
            )
        if len(node.text) > MAX_TEXT:
            self.problems.reject(node.where, f"{noun} is longer than {MAX_TEXT:,} characters")
        return node.text, node.where

    def wrong(self, node: YamlNode, noun: str) -> NoReturn:
        """Reject a value of the wrong type."""
        self.problems.reject(node.where, f"expected {noun}, found {describe(node)}")


def describe(node: YamlNode) -> str:
    """Say what a value is, in words."""
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Entries):
        return "a mapping"
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {node.text}"
    short = node.text if len(node.text) <= 60 else f"{node.text[:60]}…"  # noqa: PLR2004
    return f'"{short}"' if isinstance(value, str) else f"the number {short}"


class Shape(Protocol[T_co]):
    """What a value may look like."""

    @property
    def noun(self) -> str:
        """How mistakes and tables call such a value: "a size", "a list of checks"."""

    def read(self, node: YamlNode, reader: Reader) -> T_co:
        """Return the value.

        Raises:
            Rejected: it has another shape; the reader's problems say what is wrong.
        """

    def schema(self) -> JsonSchema:
        """Return the JSON Schema (draft-07) of such a value."""


@dataclass(frozen=True, slots=True)
class Text:
    """Free text."""

    noun: str = "text"

    def read(self, node: YamlNode, reader: Reader) -> str:
        """Return the text."""
        return reader.text(node, self.noun)[0]

    def schema(self) -> JsonSchema:
        """Any string."""
        return {"type": "string", "maxLength": MAX_TEXT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A word of a given alphabet. With `mentions` it must be defined elsewhere in the file."""

    noun: str
    pattern: str
    allowed: str
    mentions: str = ""

    def read(self, node: YamlNode, reader: Reader) -> str:
        """Return the name."""
        name, where = reader.text(node, self.noun)
        if re.fullmatch(self.pattern, name) is None:
            reader.problems.reject(where, f'not {self.noun}: "{name[:80]}"', self.allowed)
        if self.mentions:
            reader.mentions.append(Mention(self.mentions, name, where))
        return name

    def schema(self) -> JsonSchema:
        """A string that matches the pattern."""
        return {"type": "string", "pattern": f"^{self.pattern}$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Generic[T]):
    """Text with a grammar of its own. `parse` raises UsageError, whose hint is shown."""

    noun: str
    parse: Callable[[str], T]
    pattern: str = ""
    mentions: str = ""

    def read(self, node: YamlNode, reader: Reader) -> T:
        """Return what the text stands for."""
        text, where = reader.text(node, self.noun)
        try:
            value = self.parse(text)
        except UsageError as error:
            reader.problems.reject(where, error.message, error.hint)
        if self.mentions:
            reader.mentions.append(Mention(self.mentions, str(value), where))
        return value

    def schema(self) -> JsonSchema:
        """A string, with the pattern where there is one."""
        return (
            {"type": "string", "pattern": self.pattern}
            if self.pattern
            else {"type": "string", "minLength": 1}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount(Generic[T]):
    """A number or a text that begins with one, read from how it is written (`28MB`, `3`, `">= 0.9"`)."""

    noun: str
    parse: Callable[[str], T]
    schema_of: JsonSchema

    def read(self, node: YamlNode, reader: Reader) -> T:
        """Return the amount."""
        if not isinstance(node, Scalar) or node.is_null or isinstance(node.value, bool):
            reader.wrong(node, self.noun)
        try:
            return self.parse(node.text)
        except UsageError as error:
            reader.problems.reject(node.where, error.message, error.hint)

    def schema(self) -> JsonSchema:
        """The schema given."""
        return dict(self.schema_of)


SIZE = Amount(
    noun="a size",
    parse=parse_size,
    schema_of={
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": MAX_SIZE},
            {"type": "string", "pattern": SIZE_PATTERN},
        ]
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole number within bounds."""

    noun: str = "a whole number"
    minimum: int = 0
    maximum: int = 2**63 - 1

    def read(self, node: YamlNode, reader: Reader) -> int:
        """Return the number."""
        value = node.value if isinstance(node, Scalar) else None
        if not isinstance(value, int) or isinstance(value, bool):
            return self._wrong(node, reader)
        if not self.minimum <= value <= self.maximum:
            reader.problems.reject(
                node.where, f"expected {self.noun} from {self.minimum} to {self.maximum}, found {value}"
            )
        return value

    def _wrong(self, node: YamlNode, reader: Reader) -> int:
        quoted = isinstance(node, Scalar) and node.quoted and node.text.isdecimal()
        hint = "remove the quotes" if quoted else ""
        reader.problems.reject(node.where, f"expected {self.noun}, found {describe(node)}", hint)

    def schema(self) -> JsonSchema:
        """An integer within the bounds."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decimal:
    """A number within bounds."""

    noun: str = "a number"
    minimum: float
    maximum: float

    def read(self, node: YamlNode, reader: Reader) -> float:
        """Return the number."""
        value = node.value if isinstance(node, Scalar) else None
        if not isinstance(value, int | float) or isinstance(value, bool):
            reader.problems.reject(node.where, f"expected {self.noun}, found {describe(node)}")
        if not self.minimum <= value <= self.maximum:
            reader.problems.reject(
                node.where, f"expected {self.noun} from {self.minimum:g} to {self.maximum:g}, found {value:g}"
            )
        return float(value)

    def schema(self) -> JsonSchema:
        """A number within the bounds."""
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}


E_co = TypeVar("E_co", bound="StrEnum", covariant=True)


@dataclass(frozen=True, slots=True)
class Choice(Generic[E_co]):
    """One of a few words."""

    words: type[E_co]

    @property
    def noun(self) -> str:
        """The words."""
        return "one of " + ", ".join(self.words)

    def read(self, node: YamlNode, reader: Reader) -> E_co:
        """Return the word's member."""
        if not isinstance(node, Scalar) or node.is_null:
            reader.wrong(node, self.noun)
        try:
            return self.words(node.text)
        except ValueError:
            hint = did_you_mean(node.text, self.words)
            reader.problems.reject(node.where, f"expected {self.noun}, found {describe(node)}", hint)

    def schema(self) -> JsonSchema:
        """An enumeration of strings."""
        return {"type": "string", "enum": list(self.words)}
