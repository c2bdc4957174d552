"""A YAML document as a tree in which every key and value knows its line and column.

Owns the YAML reader: the only module that imports it. What it hands on is plain (text, lists, mappings),
typed by the rules of YAML 1.2's core schema. Must not know what a scenario says.
Mistakes are noted in `Problems`; reading continues where possible, so that all are reported at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Self, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml import events as yaml_events
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ruamel.yaml.error import StreamMark

# Bounds that no scenario comes near; beyond them lie alias bombs and hours of parsing.
MAX_DEPTH = 24
MAX_VALUES = 100_000
_MAX_REPORTED = 200
_MAX_DIGITS = 30

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
# Text by YAML 1.2, but a boolean, a date or a base-60 number to the YAML 1.1 readers that are still common.
_AMBIGUOUS = re.compile(
    r"(?:yes|no|on|off)|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?|[0-9]+(?::[0-5]?[0-9])+|[0-9][0-9_]*",
    re.IGNORECASE,
)


class Rejected(Exception):  # noqa: N818  (it is caught one level up; the problem has been noted already)
    """A value is of no use; why has been noted in `Problems`."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where something is written: in the file (`rank` 0), or in the nth `--set` (`rank` n)."""

    rank: int
    line: int
    column: int
    source: str

    def __str__(self) -> str:
        return self.source if self.rank else f"{self.source}:{self.line}:{self.column}"


class Scalar(str):
    """A single value or a key: its text, and where it is written. `quoted` also stands for block scalars."""

    __slots__ = ("quoted", "where")
    where: Position
    quoted: bool

    def __new__(cls, text: str, where: Position, *, quoted: bool = False) -> Self:
        """Return the value; text of a `Scalar` that is given loses its place."""
        self = super().__new__(cls, text)
        self.where, self.quoted = where, quoted
        return self

    @property
    def value(self) -> str | int | float | bool | None:
        """The value by YAML 1.2's core schema; numbers of absurd length stay text."""
        text = str(self)
        if self.quoted or len(text) > _MAX_DIGITS:
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return float(text.replace(".inf", "inf").replace(".nan", "nan")) if _is_float(text) else text

    @property
    def is_null(self) -> bool:
        """Whether nothing is written here, or `null`."""
        return self.value is None

    @property
    def is_ambiguous(self) -> bool:
        """Whether some YAML readers take this for text and others for something else."""
        return not self.quoted and isinstance(self.value, str) and _AMBIGUOUS.fullmatch(self) is not None


def _is_float(text: str) -> bool:
    return _FLOAT.fullmatch(text) is not None and text.lower().lstrip("+-") not in (".inf", ".nan")


class Items(list["YamlNode"]):
    """A list."""

    def __init__(self, items: Iterable[YamlNode], where: Position) -> None:
        super().__init__(items)
        self.where = where


class Entries(dict[str, "YamlNode"]):
    """A mapping, its keys in file order and each key once. The keys are `Scalar`."""

    def __init__(self, entries: Iterable[tuple[Scalar, YamlNode]], where: Position) -> None:
        super().__init__(entries)
        self.where = where

    def written(self) -> Iterator[tuple[Scalar, YamlNode]]:
        """Yield keys, each of which knows where it is written, and values."""
        return ((key, value) for key, value in self.items() if isinstance(key, Scalar))

    def words(self) -> Iterator[Scalar]:
        """Yield the keys."""
        return (key for key, _ in self.written())

    def key_at(self, name: str) -> Position:
        """Return where a key is written; where the mapping begins if it has no such key."""
        return next((key.where for key in self.words() if key == name), self.where)

    def value_at(self, name: str) -> Position:
        """Return where the value of a key is written; where the mapping begins if it has no such key."""
        return self[name].where if name in self else self.where


YamlNode: TypeAlias = Scalar | Items | Entries
YAML_NODE = (Scalar, Items, Entries)


def scalar_at(node: YamlNode | None, *keys: str) -> Scalar | None:
    """Return the value below some keys; None if it is null, not a scalar, or not there."""
    for key in keys:
        node = node.get(key) if isinstance(node, Entries) else None
    return node if isinstance(node, Scalar) and not node.is_null else None


@dataclass(slots=True)
class Problems:
    """Every mistake found so far, each with its place."""

    noted: dict[str, Position] = field(default_factory=dict)

    def add(self, where: Position, what: str, hint: str = "") -> None:
        """Note a mistake; the same one at the same place counts once."""
        text = " ".join(f"{what} — {hint}".split()) if hint else " ".join(what.split())
        self.noted.setdefault(f"{where}: {text}", where)

    @property
    def full(self) -> bool:
        """Whether there are more mistakes than are reported."""
        return len(self.noted) > _MAX_REPORTED

    def reject(self, where: Position, what: str, hint: str = "") -> NoReturn:
        """Note a mistake and give the value up."""
        self.add(where, what, hint)
        raise Rejected

    def lines(self) -> list[str]:
        """Return the problems in file order, those of `--set` last."""
        lines = sorted(self.noted, key=lambda line: self.noted[line])
        if len(lines) > _MAX_REPORTED:
            lines[_MAX_REPORTED:] = [f"… and {len(lines) - _MAX_REPORTED} more problems"]
        return lines


@dataclass(slots=True)
class _Composer:
    source: str
    rank: int
    problems: Problems
    events: Iterator[yaml_events.Event]
    anchors: dict[str, tuple[YamlNode, int]] = field(default_factory=dict)

    def at(self, mark: StreamMark) -> Position:
        return Position(self.rank, mark.line + 1, mark.column + 1, self.source)

    def root(self) -> YamlNode | None:
        root: YamlNode | None = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml_events.DocumentStartEvent):
                documents += 1
                self._document(event, documents)
            elif isinstance(event, yaml_events.NodeEvent):
                root, _ = self._node(event, 0)
        return root

    def _document(self, event: yaml_events.DocumentStartEvent, number: int) -> None:
        where = self.at(event.start_mark)
        if number > 1:
            hint = "a scenario file holds one; put others in files of their own"
            self.problems.reject(where, "a second document", hint)
        if event.version or event.tags:
            hint = "scenarios are YAML 1.2; remove them"
            self.problems.reject(where, "%YAML and %TAG directives are not accepted", hint)

    def _node(self, event: yaml_events.NodeEvent, depth: int) -> tuple[YamlNode, int]:
        """Return a node, and how many values it has, each alias counted in full."""
        where, anchor = self.at(event.start_mark), event.anchor
        if isinstance(event, yaml_events.AliasEvent):
            if anchor not in self.anchors:
                self.problems.reject(where, f'alias "*{anchor}" stands for nothing defined above it')
            return self.anchors[anchor]
        # A bare "!" only says "not plain" and changes nothing here.
        if str(getattr(event, "tag", None) or "!") != "!":
            self.problems.add(where, "tags (!…) are not accepted", "write text in quotes instead")
        node: YamlNode
        weight = 1
        if isinstance(event, yaml_events.ScalarEvent):
            node = Scalar(self._whole(event.value, where), where, quoted=event.style is not None)
        else:
            if depth >= MAX_DEPTH:
                self.problems.reject(where, f"nested more than {MAX_DEPTH} levels deep")
            children: list[YamlNode] = []
            while isinstance(inner := next(self.events), yaml_events.NodeEvent):
                child, more = self._node(inner, depth + 1)
                weight += more
                if weight > MAX_VALUES:
                    there = self.at(inner.start_mark)
                    self.problems.reject(
                        there, f"more than {MAX_VALUES:,} values, each alias counted in full"
                    )
                children.append(child)
            if isinstance(event, yaml_events.MappingStartEvent):
                node = Entries(self._entries(children), where)
            else:
                node = Items(children, where)
        if anchor is not None:
            self.anchors[anchor] = (node, weight)
        return node, weight

    def _whole(self, text: str, where: Position) -> str:
        """Return text whose escapes of surrogates, as JSON writes them, are joined into characters."""
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.problems.add(where, "half of a surrogate pair is not a character")
            return text.encode(errors="replace").decode()

    def _entries(self, children: list[YamlNode]) -> list[tuple[Scalar, YamlNode]]:
        found: dict[Scalar, YamlNode] = {}
        first: dict[str, Position] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self.problems.add(key.where, "a key must be a word, not a list or a mapping")
            elif key in found:
                self.problems.add(key.where, f'"{key}" is given twice', f"first at line {first[key].line}")
            else:
                # A value that is not written stands where its key does, not on the next line.
                unwritten = isinstance(value, Scalar) and not value and not value.quoted
                found[key] = Scalar("", key.where) if unwritten else value
                first[key] = key.where
        return list(found.items())


def parse(text: str, source: str, problems: Problems, *, rank: int = 0) -> YamlNode | None:
    """Read one YAML document; None where it is empty.

    Args:
        text: the document.
        source: what positions say, a file name or (with `rank` above 0) a whole `--set` option.
        problems: where mistakes are noted.
        rank: 0 for the file, n for the nth override; problems are reported in this order.

    Raises:
        Rejected: the text cannot be read to its end.
    """
    composer = _Composer(source, rank, problems, YAML(typ="safe", pure=True).parse(text))
    try:
        return composer.root()
    except ReaderError as error:
        head = text[: error.position]
        where = Position(rank, head.count("\n") + 1, len(head) - head.rfind("\n"), source)
        problems.reject(where, "a control character that YAML does not allow")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.reject(composer.at(mark) if mark else Position(rank, 1, 1, source), *_plain_words(error))
    except YAMLError as error:
        problems.reject(Position(rank, 1, 1, source), f"not YAML: {error}")


def _plain_words(error: MarkedYAMLError) -> tuple[str, str]:
    problem = error.problem or error.context or "cannot be read"
    if "'\\t'" in problem:
        return "a tab where YAML allows none", "indent with spaces"
    if "expected <block end>" in problem:
        return "not YAML: this does not line up with what is above it", "check the indentation"
    if "mapping values are not allowed" in problem:
        return "not YAML: a second ': ' in one value", "put the value in quotes, or check the indentation"
    return f"not YAML: {problem}", ""
