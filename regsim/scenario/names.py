"""Names that one part of a scenario uses and another defines.

Owns what a reading of keys alone cannot judge: unknown images, nodes, steps and records, what may be built
on what, and names that clash. Must not know YAML syntax. Works on the tree rather than on values, since an
image with a mistake in it is still defined.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from regsim.core.suggest import did_you_mean
from regsim.scenario.names_container import check_containers, committed
from regsim.scenario.positions import Entries, Items, Scalar
from regsim.scenario.schema import DEFAULT_NODE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from regsim.scenario.positions import Position, YamlNode
    from regsim.scenario.shapes import Mention, Reader


def check_names(root: Entries, reader: Reader, records: Callable[[], Collection[str]]) -> None:
    """Note every name that is used and not defined, and every definition that cannot be.

    Args:
        root: the file.
        reader: what was gathered while it was read.
        records: returns the names of recorded images; not asked where no record is mentioned.
    """
    _Names(root, reader, records).check()


class _Names:
    def __init__(self, root: Entries, reader: Reader, records: Callable[[], Collection[str]]) -> None:
        self._root = root
        self._reader = reader
        self._images = dict(_named_entries(root.get("images")))
        nodes = root.get("nodes")
        self._nodes = dict(_named_entries(nodes)) if nodes is not None else {DEFAULT_NODE: root}
        steps = root.get("steps")
        self._steps = steps.items if isinstance(steps, Items) else ()
        self._step_names = [name for step in self._steps if (name := _text(step, "name")) is not None]
        self._committed = committed(self._steps)
        self._places = [mention.name for mention in reader.mentions if mention.kind == "place"]
        self._records = records

    def check(self) -> None:
        judges = {
            "image": self._image,
            "base": self._base,
            "record": self._record,
            "node": self._node,
            "default node": self._default_node,
            "selected step": self._selected_step,
            "selected image": self._selected_image,
        }
        for mention in self._reader.mentions:
            if (judge := judges.get(mention.kind)) is not None:
                judge(mention)
        check_containers(self._steps, self._images, self._nodes, self._add)
        self._cycles()
        self._step_names_once()
        self._node_names_once()

    def _add(self, where: Position, what: str, hint: str = "") -> None:
        self._reader.problems.add(where, what, hint)

    def _image(self, mention: Mention) -> None:
        self._is_image(mention, [*self._images, *self._committed])

    def _is_image(self, mention: Mention, known: Collection[str]) -> None:
        if mention.name not in known:
            self._add(mention.where, f'no image "{mention.name}"', did_you_mean(mention.name, known))

    def _base(self, mention: Mention) -> None:
        self._is_image(mention, self._images)
        base = self._images.get(mention.name)
        kinds = {"oci": "real content", "dockerfile": "built from a Dockerfile", "platforms": "an index"}
        kind = next((kinds[key] for key in kinds if isinstance(base, Entries) and base.get(key)), None)
        if kind is not None:
            self._add(
                mention.where,
                f'"{mention.name}" is {kind}, which nothing can be built from yet',
                "name an image made of layers, or a record",
            )

    def _record(self, mention: Mention) -> None:
        known = self._records()
        if mention.name not in known:
            hint = did_you_mean(mention.name, sorted(known))
            self._add(mention.where, f'no record "{mention.name}"', hint)

    def _node(self, mention: Mention) -> None:
        if mention.name not in self._nodes:
            self._add(mention.where, f'no node "{mention.name}"', did_you_mean(mention.name, self._nodes))

    def _default_node(self, mention: Mention) -> None:
        if len(self._nodes) > 1:
            hint = f"write one of {', '.join(self._nodes)}"
            self._add(mention.where, 'several nodes, and no "node" here says which one', hint)

    def _selected_step(self, mention: Mention) -> None:
        if mention.name.isdecimal():
            if not 1 <= int(mention.name) <= len(self._steps):
                count = len(self._steps)
                self._add(mention.where, f"no step {mention.name}", f"steps are counted from 1 to {count}")
        elif mention.name not in self._step_names:
            self._add(
                mention.where, f'no step "{mention.name}"', did_you_mean(mention.name, self._step_names)
            )

    def _selected_image(self, mention: Mention) -> None:
        known = [*self._images, *self._committed, *dict.fromkeys(self._places)]
        if mention.name not in known and f"{mention.name}:latest" not in known:
            hint = did_you_mean(mention.name, [*known, *(f"step {name}" for name in self._step_names)])
            self._add(mention.where, f'no image or reference "{mention.name}"', hint)

    def _cycles(self) -> None:
        bases = {
            name: base for name, spec in self._images.items() if (base := _text(spec, "from")) is not None
        }
        told: set[str] = set()
        for name in bases:
            path = [name]
            while (base := bases.get(path[-1])) is not None and base not in path:
                path.append(base)
            if base == name and name not in told:
                told.update(path)
                where = _where(self._images[name], "from")
                self._add(where, f'"{name}" is built from itself: {" from ".join([*path, name])}')

    def _step_names_once(self) -> None:
        twice = {name for name, count in Counter(self._step_names).items() if count > 1}
        seen: set[str] = set()
        for step in self._steps:
            name = _text(step, "name")
            if name in twice and name in seen:
                self._add(_where(step, "name"), f'another step is called "{name}" already')
            if name is not None:
                seen.add(name)

    def _node_names_once(self) -> None:
        for name in self._nodes:
            group, dash, number = name.rpartition("-")
            if not dash or not number.isdecimal() or number != str(int(number[:9])):
                continue
            count = _text(self._nodes.get(group), "count")
            if count is not None and count.isdecimal() and 1 <= int(number) <= int(count[:9]):
                nodes = self._root.get("nodes")
                key = nodes.key(name) if isinstance(nodes, Entries) else None
                where = (key or self._nodes[name]).where
                self._add(
                    where, f'"{name}" is also one of the {count} nodes of "{group}"', "rename one of them"
                )


def _named_entries(node: YamlNode | None) -> list[tuple[str, YamlNode]]:
    return [(key.text, value) for key, value in node.entries] if isinstance(node, Entries) else []


def _text(node: YamlNode | None, key: str) -> str | None:
    value = node.get(key) if isinstance(node, Entries) else None
    return value.text if isinstance(value, Scalar) and not value.is_null else None


def _where(node: YamlNode, key: str) -> Position:
    value = node.get(key) if isinstance(node, Entries) else None
    return (value or node).where
