"""Names of containers and of the images that they are committed to, in the order of the steps.

Owns what a scenario's order decides: whether a container is there when a step needs it, and an image. Must
not know YAML syntax. Works on the tree, like `names.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.core.suggest import did_you_mean
from regsim.scenario.positions import Entries, Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from regsim.scenario.positions import Position, YamlNode

    Add = Callable[[Position, str, str], None]

# What is done with a container that is only named.
_BY_NAME = ("stop", "start", "rm")


def committed(steps: Sequence[YamlNode]) -> list[str]:
    """Return the images that steps commit containers to."""
    images = (_scalar(step, "container", "commit", "image") for step in steps)
    return [image.text for image in images if image is not None]


def check_containers(
    steps: Sequence[YamlNode], images: Mapping[str, YamlNode], nodes: Mapping[str, YamlNode], add: Add
) -> None:
    """Note what a step needs and no earlier one has made, or what is made twice.

    Args:
        steps: of the file.
        images: those that the file defines.
        nodes: likewise.
        add: notes a mistake: where, what, and a hint.
    """
    _Lives(images, nodes, add, dict.fromkeys(committed(steps))).check(steps)


class _Lives:
    def __init__(
        self,
        images: Mapping[str, YamlNode],
        nodes: Mapping[str, YamlNode],
        add: Add,
        to_come: dict[str, None],
    ) -> None:
        self._images = images
        self._nodes = nodes
        self._add = add
        self._to_come = to_come
        self._made: dict[str, int] = {}
        self._alive: set[str] = set()
        self._gone: dict[str, int] = {}

    def check(self, steps: Sequence[YamlNode]) -> None:
        for number, step in enumerate(steps, start=1):
            image = _scalar(step, "push", "image") or _scalar(step, "container", "create", "image")
            known = image is None or image.text in self._images or image.text in self._made
            if image is not None and not known and image.text in self._to_come:
                self._add(image.where, f'no step before this one commits "{image.text}"', "")
            container = step.get("container") if isinstance(step, Entries) else None
            fails = _scalar(step, "expect", "error") is not None
            for act, value in container.entries if isinstance(container, Entries) else ():
                self._do(number, act.text, value, fails=fails)

    def _do(self, number: int, act: str, value: YamlNode, *, fails: bool) -> None:
        name = value if act in _BY_NAME else _scalar(value, "name")
        if not isinstance(name, Scalar) or name.is_null:
            return  # told already
        if act == "create":
            self._create(name, value, fails=fails)
            return
        if name.text not in self._alive:
            gone = self._gone.get(name.text)
            what = f'no container "{name.text}"' + (f": step {gone} removes it" if gone is not None else "")
            self._add(name.where, what, did_you_mean(name.text, sorted(self._alive)) if gone is None else "")
        elif act == "rm" and not fails:
            self._alive.remove(name.text)
            self._gone[name.text] = number
        if act == "commit" and (image := _scalar(value, "image")) is not None:
            if image.text in self._images or image.text in self._made:
                self._add(image.where, f'another image is called "{image.text}" already', "")
            if not fails:
                self._made[image.text] = number

    def _create(self, name: Scalar, value: YamlNode, *, fails: bool) -> None:
        if name.text in self._alive:
            self._add(name.where, f'another container is called "{name.text}" already', "remove it before")
        if not fails:
            self._alive.add(name.text)
            self._gone.pop(name.text, None)
        node = _scalar(value, "node")
        group = node.text if node is not None else next(iter(self._nodes))
        count = _scalar(self._nodes.get(group), "count")
        if count is not None:
            where = node.where if node is not None else name.where
            self._add(where, f'"{group}" is a group of nodes, and a container runs on one', "")
        image = _scalar(value, "image")
        spec = self._images.get(image.text) if image is not None else None
        if image is not None and isinstance(spec, Entries) and spec.get("platforms") is not None:
            self._add(image.where, f'"{image.text}" is an index', "name an image of one platform")


def _scalar(node: YamlNode | None, *keys: str) -> Scalar | None:
    for key in keys:
        node = node.get(key) if isinstance(node, Entries) else None
    return node if isinstance(node, Scalar) and not node.is_null else None
