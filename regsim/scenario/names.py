"""Names that one part of a scenario uses and another defines.

Owns what reading keys alone cannot judge: unknown images, nodes, steps, records and containers, what may be
built on what, names that clash, and the order in which steps make what they need. Works on the document
rather than on values, since an image with a mistake in it is still defined.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from regsim.core.suggest import did_you_mean
from regsim.scenario.checks import Selector
from regsim.scenario.yaml_document import Entries, Items, Scalar, scalar_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from regsim.scenario.reader import Mention, Reader
    from regsim.scenario.yaml_document import Position, YamlNode

DEFAULT_NODE = "node"

# How many images of a circle are reported.
_SHOWN = 10

# What is done with a container that is only named.
_BY_NAME = ("stop", "start", "rm")


def check_names(root: Entries, reader: Reader, records: Callable[[], Collection[str]]) -> None:
    """Note every name that is used and not defined, and every definition that cannot be.

    Args:
        root: the file.
        reader: what was gathered while it was read.
        records: returns the names of recorded images; not called if no record is mentioned.
    """
    names = _Names(root, reader)
    names.check(reader.mentions, records)
    _Containers(names).check()


class _Names:
    def __init__(self, root: Entries, reader: Reader) -> None:
        self._reader = reader
        self._named_nodes = root.get("nodes")
        self.images: Mapping[str, YamlNode] = _entries(root.get("images"))
        self.nodes = _entries(self._named_nodes) if self._named_nodes is not None else {DEFAULT_NODE: root}
        steps = root.get("steps")
        self.steps: Sequence[YamlNode] = steps if isinstance(steps, Items) else ()
        self._step_names = [name for step in self.steps if (name := scalar_at(step, "name")) is not None]
        commits = (scalar_at(step, "container", "commit", "image") for step in self.steps)
        self.committed: dict[str, None] = dict.fromkeys(image for image in commits if image is not None)
        self._pushable = dict.fromkeys([*self.images, *self.committed])

    def check(self, mentions: Sequence[Mention], records: Callable[[], Collection[str]]) -> None:
        places = dict.fromkeys(str(each.value) for each in mentions if each.kind == "place")
        recorded = sorted(records()) if any(each.kind == "record" for each in mentions) else []
        for kind, value, where in mentions:
            match kind:
                case "image":
                    self._is_known("image", value, where, self._pushable)
                case "base":
                    self._base(value, where)
                case "record":
                    self._is_known("record", value, where, recorded)
                case "node":
                    self._is_known("node", value, where, self.nodes)
                case "check":
                    self._selected(value.selector, where, places)
        self._cycles()
        self._step_names_once()
        self._node_names_once()

    def add(self, where: Position, what: str, hint: str = "") -> None:
        self._reader.problems.add(where, what, hint)

    def hint(self, word: str, known: Collection[str]) -> str:
        """Return what a word was probably meant to be, if its mistake is reported."""
        return "" if self._reader.problems.full else did_you_mean(word, known)

    def _is_known(self, kind: str, name: str, where: Position, known: Collection[str]) -> None:
        if name not in known:
            self.add(where, f'no {kind} "{name}"', self.hint(name, known))

    def _base(self, name: str, where: Position) -> None:
        self._is_known("image", name, where, self.images)
        base = self.images.get(name)
        kinds = {"oci": "real content", "dockerfile": "built from a Dockerfile", "platforms": "an index"}
        kind = next((kinds[key] for key in kinds if isinstance(base, Entries) and key in base), None)
        if kind is not None:
            self.add(
                where,
                f'"{name}" is {kind}, which nothing can be built from yet',
                "name an image made of layers, or a record",
            )

    def _selected(self, selector: Selector, where: Position, places: Collection[str]) -> None:
        match selector:
            case Selector(step=int(number)) if not 1 <= number <= len(self.steps):
                self.add(where, f"no step {number}", f"steps are counted from 1 to {len(self.steps)}")
            case Selector(step=str(name)):
                self._is_known("step", name, where, self._step_names)
            case Selector(image=str(image)):
                known = {**self._pushable, **dict.fromkeys(places)}
                if image not in known and f"{image}:latest" not in known:
                    hint = self.hint(image, [*known, *(f"step {name}" for name in self._step_names)])
                    self.add(where, f'no image or reference "{image}"', hint)

    def _cycles(self) -> None:
        bases = {
            name: str(base)
            for name, spec in self.images.items()
            if (base := scalar_at(spec, "from")) is not None
        }
        done: set[str] = set()
        for name in bases:
            # A dict, since it is asked at each step whether the way comes round.
            path: dict[str, None] = {}
            each: str | None = name
            while each is not None and each not in done and each not in path:
                path[each] = None
                each = bases.get(each)
            if each in path and each is not None:
                around = [*path]
                around = around[around.index(each) :]
                spec = self.images[each]
                where = spec.value_at("from") if isinstance(spec, Entries) else spec.where
                shown = [*around[:_SHOWN], *(["…"] if len(around) > _SHOWN else []), each]
                self.add(where, f'"{each}" is built from itself: {" from ".join(shown)}')
            done.update(path)

    def _step_names_once(self) -> None:
        twice = {name for name, count in Counter(self._step_names).items() if count > 1}
        seen: set[str] = set()
        for name in self._step_names:
            if name in twice and name in seen:
                self.add(name.where, f'another step is called "{name}" already')
            seen.add(name)

    def _node_names_once(self) -> None:
        for name, node in self.nodes.items():
            group, dash, number = name.rpartition("-")
            if not dash or not number.isdecimal() or number != str(int(number[:9])):
                continue
            count = scalar_at(self.nodes.get(group), "count")
            if count is not None and count.isdecimal() and 1 <= int(number) <= int(count[:9]):
                nodes = self._named_nodes
                where = nodes.key_at(name) if isinstance(nodes, Entries) else node.where
                clash = f'"{name}" is also one of the {count} nodes of "{group}"'
                self.add(where, clash, "rename one of them")


class _Containers:
    """Whether a container is there when a step needs it, and an image."""

    def __init__(self, names: _Names) -> None:
        self._names = names
        self._made: dict[str, int] = {}
        self._alive: set[str] = set()
        self._gone: dict[str, int] = {}

    def check(self) -> None:
        images = self._names.images
        for number, step in enumerate(self._names.steps, start=1):
            image = scalar_at(step, "push", "image") or scalar_at(step, "container", "create", "image")
            to_come = image is not None and image in self._names.committed
            if image is not None and to_come and image not in images and image not in self._made:
                self._names.add(image.where, f'no step before this one commits "{image}"')
            container = step.get("container") if isinstance(step, Entries) else None
            fails = scalar_at(step, "expect", "error") is not None
            for act, value in _entries(container).items():
                self._do(number, act, value, fails=fails)

    def _do(self, number: int, act: str, value: YamlNode, *, fails: bool) -> None:
        name = value if act in _BY_NAME else scalar_at(value, "name")
        if not isinstance(name, Scalar) or name.is_null:
            return  # reported already
        if act == "create":
            self._create(name, value, fails=fails)
            return
        if name not in self._alive:
            gone = self._gone.get(name)
            if gone is None:
                hint = self._names.hint(name, sorted(self._alive))
                self._names.add(name.where, f'no container "{name}"', hint)
            else:
                self._names.add(name.where, f'no container "{name}": step {gone} removes it')
        elif act == "rm" and not fails:
            self._alive.remove(name)
            self._gone[name] = number
        if act == "commit" and (image := scalar_at(value, "image")) is not None:
            if image in self._names.images or image in self._made:
                self._names.add(image.where, f'another image is called "{image}" already')
            if not fails:
                self._made[image] = number

    def _create(self, name: Scalar, value: YamlNode, *, fails: bool) -> None:
        if name in self._alive:
            self._names.add(name.where, f'another container is called "{name}" already', "remove it before")
        if not fails:
            self._alive.add(name)
            self._gone.pop(name, None)
        node = scalar_at(value, "node")
        group = node if node is not None else next(iter(self._names.nodes), DEFAULT_NODE)
        if scalar_at(self._names.nodes.get(group), "count") is not None:
            where = (name if node is None else node).where
            self._names.add(where, f'"{group}" is a group of nodes, and a container runs on one')
        image = scalar_at(value, "image")
        spec = None if image is None else self._names.images.get(image)
        if image is not None and isinstance(spec, Entries) and "platforms" in spec:
            self._names.add(image.where, f'"{image}" is an index', "name an image of one platform")


def _entries(node: YamlNode | None) -> Mapping[str, YamlNode]:
    return node if isinstance(node, Entries) else {}
