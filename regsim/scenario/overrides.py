"""`--set PATH=VALUE`: changes to a scenario before it is judged.

Owns the path grammar: keys joined by dots, where a key may itself hold dots (`images.api:1.2.layers`), and
list items by their number counted from 1, as steps are. Must not know any particular key: what comes out is
judged like what a file says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.core.suggest import did_you_mean
from regsim.scenario.yaml_document import (
    Entries,
    Items,
    Position,
    Problems,
    Rejected,
    Scalar,
    YamlNode,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_LENGTH = 10_000


def apply_overrides(root: Entries, assignments: Sequence[str], problems: Problems) -> Entries:
    """Return the document with every assignment made, in order.

    Args:
        root: the document.
        assignments: `PATH=VALUE` each; the value is read as YAML.
        problems: where mistakes are noted, under the position `--set PATH=VALUE`.
    """
    for rank, assignment in enumerate(assignments, start=1):
        try:
            changed = _assign(root, assignment, rank, problems)
        except Rejected:
            continue
        root = changed if isinstance(changed, Entries) else root
    return root


def _assign(root: Entries, assignment: str, rank: int, problems: Problems) -> YamlNode:
    shown = "".join(char if char.isprintable() else " " for char in assignment[:200])
    where = Position(rank, 1, 1, f"--set {shown}")
    path, equals, value = assignment.partition("=")
    if not equals or not path.strip():
        problems.reject(where, "not an assignment", "write PATH=VALUE, such as seed=9")
    if len(assignment) > _MAX_LENGTH:
        problems.reject(where, f"longer than {_MAX_LENGTH:,} characters")
    node = parse(value, where.source, problems, rank=rank)
    if node is None:
        node = Scalar("", where)
    return _set_at(root, path.strip(), node, where, problems)


def _set_at(parent: YamlNode, path: str, value: YamlNode, where: Position, problems: Problems) -> YamlNode:
    if isinstance(parent, Items):
        return _set_item(parent, path, value, where, problems)
    if isinstance(parent, Scalar):
        if not parent.is_null:
            problems.reject(where, f'"{path}" lies below a value that has no keys')
        parent = Entries((), where)
    known = [key for key in parent if path == key or path.startswith(f"{key}.")]
    if not known:
        first, dot, _ = path.partition(".")
        if dot:
            problems.reject(where, f'nothing here is called "{first}"', did_you_mean(first, parent))
        # Whether the key may be there at all is judged with the rest of the document.
        return Entries([*parent.written(), (Scalar(path, where, quoted=True), value)], parent.where)
    # The longest key wins, so that keys that hold dots can be reached.
    name = max(known, key=len)
    rest = path[len(name) + 1 :]
    entries: list[tuple[Scalar, YamlNode]] = []
    for key, old in parent.written():
        if key != name:
            entries.append((key, old))
        elif rest:
            entries.append((key, _set_at(old, rest, value, where, problems)))
        else:
            entries.append((Scalar(key, where, quoted=key.quoted), value))
    return Entries(entries, parent.where)


def _set_item(parent: Items, path: str, value: YamlNode, where: Position, problems: Problems) -> YamlNode:
    first, _, rest = path.partition(".")
    number = int(first) if first.isdecimal() and len(first) < 10 else 0  # noqa: PLR2004
    if not 1 <= number <= len(parent):
        count = len(parent)
        problems.reject(where, f'no item "{first}" in a list of {count}', "items are counted from 1")
    items = list(parent)
    items[number - 1] = _set_at(items[number - 1], rest, value, where, problems) if rest else value
    return Items(items, parent.where)
