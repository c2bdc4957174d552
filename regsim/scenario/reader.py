"""Reading a document by pydantic's models: every mistake at once, in our words, where it stands.

Owns what one reading gathers, and the table from pydantic's errors to our words. Must not know any model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from regsim.core.suggest import did_you_mean
from regsim.scenario.yaml_document import Entries, Items, Position, Problems, Scalar, YamlNode

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")

_SHOWN = 60
# Errors of these types have been noted already, or follow from what has been noted.
NOTED: Final = "noted"
_TOLD = frozenset({NOTED, "missing"})


class Mention(NamedTuple):
    """A name, or a check with one, that must be defined elsewhere in the file; where it is used."""

    kind: str
    value: Any
    where: Position


@dataclass(slots=True)
class Reader:
    """What one reading of a file has gathered: its mistakes, and the names that it uses.

    `directory` is the file's own, to which paths in it relate; `nodes` are the names of its nodes.
    """

    problems: Problems = field(default_factory=Problems)
    directory: Path = field(default_factory=Path)
    nodes: tuple[str, ...] = ()
    mentions: list[Mention] = field(default_factory=list)

    def read(self, kind: TypeAdapter[T], root: YamlNode) -> T | None:
        """Return what a document says; None if it has mistakes, which are noted."""
        try:
            return kind.validate_python(root, context=self)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                given = each.get("ctx", {})
                if "problem" in given:
                    self.problems.add(*given["problem"])
                elif each["type"] not in _TOLD:
                    node = _at(root, each["loc"])
                    self.problems.add(node.where, *_words(each, node))
        return None


def refusal(node: YamlNode, what: str, hint: str = "") -> PydanticCustomError:
    """Return the error for a value that cannot be what a key wants."""
    # A tuple, since pydantic takes only text that can be encoded: YAML has escapes of surrogates.
    return PydanticCustomError("refused", "refused", {"problem": (node.where, what, hint)})


def unexpected(node: YamlNode, noun: str, hint: str = "") -> PydanticCustomError:
    """Return the error for a value of the wrong type."""
    return refusal(node, f"expected {noun}, found {describe(node)}", hint)


def describe(node: YamlNode) -> str:
    """Say what a value is, in words."""
    if isinstance(node, Items):
        return "a list" if node else "an empty list"
    if isinstance(node, Entries):
        return "a mapping"
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {node}"
    short = node if len(node) <= _SHOWN else f"{node[:_SHOWN]}…"
    return f'"{short}"' if isinstance(value, str) else f"the number {short}"


# --- from pydantic's errors to our words ----------------------------------------------------------------


def _at(root: YamlNode, path: tuple[int | str, ...]) -> YamlNode:
    """Return the node at pydantic's location, which also names members of unions."""
    node = root
    for step in path:
        if isinstance(node, Entries) and step in node:
            node = node[str(step)]
        elif isinstance(node, Items) and isinstance(step, int):
            node = node[step]
    return node


def _words(error: ErrorDetails, node: YamlNode) -> tuple[str, str]:
    """Return what is wrong, and a hint or nothing."""
    given = error.get("ctx", {})
    match error["type"]:
        case "int_type" | "float_type" | "finite_number" as kind:
            noun = "a whole number" if kind == "int_type" else "a number"
            quoted = isinstance(node, Scalar) and node.quoted and node.isdecimal()
            return f"expected {noun}, found {describe(node)}", "remove the quotes" if quoted else ""
        case "greater_than_equal":
            return f"expected {int(given['ge']):,} or more, found {node}", ""
        case "less_than_equal":
            return f"expected {int(given['le']):,} or less, found {node}", ""
        case "enum":
            words = re.findall("'([^']*)'", str(given["expected"]))
            hint = did_you_mean(node, words) if isinstance(node, Scalar) and not node.is_null else ""
            return f"expected one of {', '.join(words)}, found {describe(node)}", hint
        case _:
            return error["msg"], ""
