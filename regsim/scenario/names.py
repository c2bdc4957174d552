"""Names that one part of a scenario uses and another defines.

Owns what reading keys alone cannot judge: unknown images, nodes, steps, records and containers, what may be
built on what, names that clash, and the order in which steps make what they need. Works on the document
rather than on values, since an image with a mistake in it is still defined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.core.suggest import did_you_mean
from regsim.scenario.checks import Selector
from regsim.scenario.yaml_document import Entries, Items, Scalar, scalar_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from regsim.scenario.reader import Reader
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
    _Names(root, reader).check(records)


class _Names:
    def __init__(self, root: Entries, reader: Reader) -> None:
        self._reader = reader
        nodes = root.get("nodes")
        self._images: Mapping[str, YamlNode] = _entries(root.get("images"))
        self._nodes = {DEFAULT_NODE: root} if nodes is None else _entries(nodes)
        steps = root.get("steps")
        self._steps: Sequence[YamlNode] = steps if isinstance(steps, Items) else ()
        self._step_names = [name for step in self._steps if (name := scalar_at(step, "name")) is not None]
        commits = (scalar_at(step, "container", "commit", "image") for step in self._steps)
        self._committed: dict[str, None] = dict.fromkeys(image for image in commits if image is not None)
        self._pushable = dict.fromkeys([*self._images, *self._committed])
        # By step: the images that containers were committed to, and the containers that were removed.
        self._made: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._alive: set[str] = set()

    def check(self, records: Callable[[], Collection[str]]) -> None:
        mentions = self._reader.mentions
        places = dict.fromkeys(str(each.value) for each in mentions if each.kind == "place")
        recorded = sorted(records()) if any(each.kind == "record" for each in mentions) else []
        known = {"image": self._pushable, "record": recorded, "node": self._nodes}
        for kind, value, where in mentions:
            if kind in known:
                self._is_known(kind, value, where, known[kind])
            elif kind == "base":
                self._base(value, where)
            elif kind == "check":
                self._selected(value.selector, where, places)
        self._cycles()
        self._step_names_once()
        self._node_names_once()
        self._containers()

    def _add(self, where: Position, what: str, hint: str = "") -> None:
        self._reader.problems.add(where, what, hint)

    def _hint(self, word: str, known: Collection[str]) -> str:
        """Return what a word was probably meant to be, if its mistake is reported."""
        return "" if self._reader.problems.full else did_you_mean(word, known)

    def _is_known(self, kind: str, name: str, where: Position, known: Collection[str]) -> None:
        if name not in known:
            self._add(where, f'no {kind} "{name}"', self._hint(name, known))

    def _base(self, name: str, where: Position) -> None:
        self._is_known("image", name, where, self._images)
        base = self._images.get(name)
        kinds = {"oci": "real content", "dockerfile": "built from a Dockerfile", "platforms": "an index"}
        kind = next((kinds[key] for key in kinds if isinstance(base, Entries) and key in base), None)
        if kind is not None:
            self._add(
                where,
                f'"{name}" is {kind}, which nothing can be built from yet',
                "name an image made of layers, or a record",
            )

    def _selected(self, selector: Selector, where: Position, places: Collection[str]) -> None:
        match selector:
            case Selector(step=int(number)) if not 1 <= number <= len(self._steps):
                self._add(where, f"no step {number}", f"steps are counted from 1 to {len(self._steps)}")
            case Selector(step=str(name)):
                self._is_known("step", name, where, self._step_names)
            case Selector(image=str(image)):
                known = {**self._pushable, **dict.fromkeys(places)}
                if image not in known and f"{image}:latest" not in known:
                    hint = self._hint(image, [*known, *(f"step {name}" for name in self._step_names)])
                    self._add(where, f'no image or reference "{image}"', hint)

    def _cycles(self) -> None:
        written = {name: scalar_at(spec, "from") for name, spec in self._images.items()}
        bases = {name: base for name, base in written.items() if base is not None}
        done: set[str] = set()
        for name in bases:
            path: list[str] = []
            each = str(name)
            while each in bases and each not in done:
                done.add(each)
                path.append(each)
                each = bases[each]
            if each in path:
                around = path[path.index(each) :]
                shown = [*around[:_SHOWN], *(["…"] if len(around) > _SHOWN else []), each]
                where = bases[each].where
                self._add(where, f'"{each}" is built from itself: {" from ".join(shown)}')

    def _step_names_once(self) -> None:
        seen: set[str] = set()
        for name in self._step_names:
            if name in seen:
                self._add(name.where, f'another step is called "{name}" already')
            seen.add(name)

    def _node_names_once(self) -> None:
        for name in self._nodes:
            group, _, number = name.rpartition("-")
            if not isinstance(name, Scalar) or not number.isdecimal() or number != str(int(number[:9])):
                continue
            count = scalar_at(self._nodes.get(group), "count")
            if count is not None and count.isdecimal() and 1 <= int(number) <= int(count[:9]):
                clash = f'"{name}" is also one of the {count} nodes of "{group}"'
                self._add(name.where, clash, "rename one of them")

    def _containers(self) -> None:
        """Check that a container is there when a step needs it, and an image."""
        for number, step in enumerate(self._steps, start=1):
            image = scalar_at(step, "push", "image") or scalar_at(step, "container", "create", "image")
            to_come = image in self._committed and image not in self._images and image not in self._made
            if image is not None and to_come:
                self._add(image.where, f'no step before this one commits "{image}"')
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
                hint = self._hint(name, sorted(self._alive))
                self._add(name.where, f'no container "{name}"', hint)
            else:
                self._add(name.where, f'no container "{name}": step {gone} removes it')
        elif act == "rm" and not fails:
            self._alive.remove(name)
            self._gone[name] = number
        if act == "commit" and (image := scalar_at(value, "image")) is not None:
            if image in self._images or image in self._made:
                self._add(image.where, f'another image is called "{image}" already')
            if not fails:
                self._made[image] = number

    def _create(self, name: Scalar, value: YamlNode, *, fails: bool) -> None:
        if name in self._alive:
            self._add(name.where, f'another container is called "{name}" already', "remove it before")
        if not fails:
            self._alive.add(name)
            self._gone.pop(name, None)
        node = scalar_at(value, "node")
        group = node if node is not None else next(iter(self._nodes), DEFAULT_NODE)
        if scalar_at(self._nodes.get(group), "count") is not None:
            where = (name if node is None else node).where
            self._add(where, f'"{group}" is a group of nodes, and a container runs on one')
        image = scalar_at(value, "image")
        spec = None if image is None else self._images.get(image)
        if image is not None and isinstance(spec, Entries) and "platforms" in spec:
            self._add(image.where, f'"{image}" is an index', "name an image of one platform")


def _entries(node: YamlNode | None) -> Mapping[str, YamlNode]:
    return node if isinstance(node, Entries) else {}
