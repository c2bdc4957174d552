"""Steps with containers as a scenario file writes them.

Owns the keys below `container`. Must not know the other parts of a file, nor how a scenario runs: names used
here are judged in `names.py`.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self, TypeAlias

from regsim.scenario.fields import Mapped, Several, Written, free_text, key, word
from regsim.scenario.schema_image import IMAGE_NAME, FileMode, Files, PathInImage, Paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from regsim.scenario.reader import Reader
    from regsim.scenario.yaml_document import Entries

NODE_NAME = word(
    "a node name", r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,62}", "letters, digits and _ . -, such as edge"
)
_NAME = word(
    "a container name", r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,62}", "letters, digits and _ . -, such as web"
)
# The node of a step; an empty one is the only node, once all are known.
StepNode: TypeAlias = Annotated[str, replace(NODE_NAME, mentions="node")]
KnownImage: TypeAlias = Annotated[str, replace(IMAGE_NAME, mentions="image")]


class ByNode(Mapped):
    """Something that a node does."""

    reserved = ("platform",)

    node: StepNode = key("Which node does it", absent="the only node", default="")

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the keys that may be written, the node last."""
        known = super().keys()
        return {name: known[name] for name in sorted(known, key="node".__eq__)}

    def finish(self, entries: Entries, reader: Reader) -> Self:
        """Fill in the only node if none is named."""
        if self.node:
            return self
        if len(reader.nodes) > 1:
            hint = f"write one of {', '.join(reader.nodes)}"
            reader.problems.add(entries.where, 'several nodes, and no "node" here says which one', hint)
        return self.model_copy(update={"node": reader.nodes[0]})


class Doing(Mapped):
    """Something that is done with one container, called `name`."""

    name: Annotated[str, _NAME] = key("The container")

    @property
    def act(self) -> str:
        """What is done, which names the class: the key below `container`."""
        return type(self).__name__.lower()


class Create(ByNode, Doing):
    """A container is made from an image, and runs."""

    noun = "a create"

    name: Annotated[str, _NAME] = key("What it is called from now on")
    image: KnownImage = key("The image, by its key in images or as an earlier commit calls it")
    node: StepNode = key("Which node it runs on; a single one", absent="the only node", default="")


class Write(Doing):
    """Files of a container change; in the order of these keys.

    Attributes:
        directories: are there then.
        files: by path, in place of what is there.
        append: by path, what comes to the end of a file.
        chmod: by path, permission bits.
    """

    noun = "a write"

    directories: Paths = key("Directories that are there then", absent="none", default=())
    files: Files = key(
        "Files by their paths: a size, or a mapping as of what a command leaves", absent="none", default={}
    )
    append: Files = key(
        "What comes to the end of files, written as in files; a file of the image is copied up",
        absent="nothing",
        default={},
    )
    chmod: Annotated[dict[PathInImage, FileMode], Several("a mapping of paths to modes")] = key(
        "Permission bits by path; a file of the image is copied up", absent="as they are", default={}
    )

    def finish(self, entries: Entries, reader: Reader) -> Self:
        """Note a write of nothing, and a link that is appended."""
        add = reader.problems.add
        if len(entries) == 1:
            add(entries.where, 'a write needs one of "directories", "files", "append", "chmod"')
        for path, file in self.append.items():
            if file.link is not None:
                shown = path.decode("utf-8", "replace")
                add(entries.key_at("append"), f'"{shown}": a link cannot be appended')
        return self


class Remove(Doing):
    """Files and directories of a container are removed."""

    noun = "a remove"

    paths: Annotated[tuple[PathInImage, ...], Several("a list of paths", 1)] = key(
        "What is removed, directories with all in them"
    )


class Read(Doing):
    """A file of a container is read."""

    noun = "a read"

    path: PathInImage = key("The file")


class List(Doing):
    """A directory of a container is listed."""

    noun = "a list step"

    path: PathInImage = key("The directory", absent="the root", default=b"")


class Stop(Doing):
    """A container stops, and keeps its layer."""


class Start(Doing):
    """A container runs again."""


class Rm(Doing):
    """A container is removed, and its layer lost."""


class Commit(Doing):
    """What a container holds becomes an image, which later steps may push or create containers from."""

    noun = "a commit"

    image: Annotated[str, IMAGE_NAME] = key("What the image is called from now on")
    message: Annotated[str, free_text("a message")] = key(
        "A comment in its history", absent="none", default=""
    )


def _by_name(kind: type[Doing]) -> Written:
    return replace(_NAME, parse=lambda name: kind(name=_NAME.parse(name)))


class InContainer(Mapped):
    """Something is done with a container on a node; no registry knows of it."""

    noun = "a container step"
    one_of = ("create", "write", "remove", "read", "list", "stop", "start", "rm", "commit")

    create: Create | None = key("Makes it from an image; it runs at once", default=None)
    write: Write | None = key("Changes files, in the order of these keys", default=None)
    remove: Remove | None = key("Removes files and directories", default=None)
    read: Read | None = key(
        "Reads a file, which must be there unless the step expects it absent", default=None
    )
    list: List | None = key("Lists a directory", default=None)
    stop: Annotated[Stop, _by_name(Stop)] | None = key("Stops it; its layer stays", default=None)
    start: Annotated[Start, _by_name(Start)] | None = key("Lets it run again", default=None)
    rm: Annotated[Rm, _by_name(Rm)] | None = key(
        "Removes it when it is stopped; its layer is lost", default=None
    )
    commit: Commit | None = key("Makes an image of it, with one layer more", default=None)

    @property
    def doing(self) -> Doing:
        """What is done."""
        doings: Iterator[Doing | None] = (getattr(self, act) for act in self.one_of)
        return next(filter(None, doings))


class Presence(StrEnum):
    """Whether something is at a path."""

    PRESENT = "present"
    ABSENT = "absent"
