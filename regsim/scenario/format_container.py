"""Steps with containers as a scenario file writes them.

Owns the keys below `container`. Must not know the other parts of a file: the names used here are judged in
`names.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regsim.scenario.compound import ListOf, MapOf
from regsim.scenario.format_image import IMAGE_NAME
from regsim.scenario.format_node import NODE_NAME
from regsim.scenario.format_run import FILE, FILES, PATH
from regsim.scenario.schema import InContainer
from regsim.scenario.schema_container import (
    Act,
    Commit,
    Create,
    List,
    Read,
    Remove,
    Rm,
    Start,
    Stop,
    Write,
)
from regsim.scenario.shapes import Fields, Mention, Name, Reader, Text
from regsim.scenario.table import AnyTable, Key, Table

if TYPE_CHECKING:
    from regsim.scenario.positions import Entries
    from regsim.scenario.schema_container import Doing
    from regsim.scenario.shapes import Shape

CONTAINER_NAME = Name(
    noun="a container name",
    pattern=r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,62}",
    allowed="letters, digits and _ . -, such as web",
)

_NAME = Key(doc="The container", shape=CONTAINER_NAME, required=True)


def _create(fields: Fields, entries: Entries, reader: Reader) -> Create:
    if "node" not in fields:
        reader.mentions.append(Mention("default node", "", entries.where))
    return Create(**{"node": "", **fields})


def _write(fields: Fields, entries: Entries, reader: Reader) -> Write:
    write = Write(**fields)
    if len(fields) == 1:
        reader.problems.add(entries.where, 'a write needs one of "directories", "files", "append", "chmod"')
    for path, file in write.append.items():
        if file.link is not None:
            where = (entries.key("append") or entries).where
            reader.problems.add(where, f'"{path.decode("utf-8", "replace")}": a link cannot be appended')
    return write


DOINGS: dict[Act, tuple[str, Shape[Any]]] = {
    Act.CREATE: (
        "Makes it from an image; it runs at once",
        Table(
            noun="a create",
            keys={
                "name": Key(doc="What it is called from now on", shape=CONTAINER_NAME, required=True),
                "image": Key(
                    doc="The image, by its key in images or as an earlier commit calls it",
                    shape=replace(IMAGE_NAME, mentions="image"),
                    required=True,
                ),
                "node": Key(
                    doc="Which node it runs on; a single one",
                    shape=replace(NODE_NAME, mentions="node"),
                    default="the only node",
                ),
            },
            build=_create,
        ),
    ),
    Act.WRITE: (
        "Changes files, in the order of these keys",
        Table(
            noun="a write",
            keys={
                "name": _NAME,
                "directories": Key(
                    doc="Directories that are there then",
                    shape=ListOf(noun="a list of paths", item=PATH),
                    default="none",
                ),
                "files": Key(
                    doc="Files by their paths: a size, or a mapping as of what a command leaves",
                    shape=FILES,
                    default="none",
                ),
                "append": Key(
                    doc="What comes to the end of files, likewise; a file of the image is copied up",
                    shape=FILES,
                    default="nothing",
                ),
                "chmod": Key(
                    doc="Permission bits by path; a file of the image is copied up",
                    shape=MapOf(
                        noun="a mapping of paths to modes",
                        key=PATH,
                        value=FILE.keys["mode"].shape,
                        build=lambda _, mode: mode,
                    ),
                    default="as they are",
                ),
            },
            build=_write,
        ),
    ),
    Act.REMOVE: (
        "Removes files and directories",
        Table(
            noun="a remove",
            keys={
                "name": _NAME,
                "paths": Key(
                    doc="What is removed, directories with all in them",
                    shape=ListOf(noun="a list of paths", item=PATH, minimum=1),
                    required=True,
                ),
            },
            build=lambda fields, *_: Remove(**fields),
        ),
    ),
    Act.READ: (
        "Reads a file, which must be there unless the step expects it absent",
        Table(
            noun="a read",
            keys={"name": _NAME, "path": Key(doc="The file", shape=PATH, required=True)},
            build=lambda fields, *_: Read(**fields),
        ),
    ),
    Act.LIST: (
        "Lists a directory",
        Table(
            noun="a list step",
            keys={"name": _NAME, "path": Key(doc="The directory", shape=PATH, default="the root")},
            build=lambda fields, *_: List(**fields),
        ),
    ),
    Act.STOP: ("Stops it; its layer stays", CONTAINER_NAME),
    Act.START: ("Lets it run again", CONTAINER_NAME),
    Act.RM: ("Removes it when it is stopped; its layer is lost", CONTAINER_NAME),
    Act.COMMIT: (
        "Makes an image of it, with one layer more",
        Table(
            noun="a commit",
            keys={
                "name": _NAME,
                "image": Key(doc="What the image is called from now on", shape=IMAGE_NAME, required=True),
                "message": Key(doc="A comment in its history", shape=Text("a message"), default="none"),
            },
            build=lambda fields, *_: Commit(**fields),
        ),
    ),
}

_BY_NAME: dict[Act, type[Stop | Start | Rm]] = {Act.STOP: Stop, Act.START: Start, Act.RM: Rm}


def _doing(fields: Fields, *_: Any) -> InContainer:
    act = next(act for act in Act if act in fields)
    by_name = _BY_NAME.get(act)
    doing: Doing = by_name(name=fields[act]) if by_name is not None else fields[act]
    return InContainer(doing=doing)


CONTAINER = Table(
    noun="a container step",
    keys={act.value: Key(doc=doc, shape=shape) for act, (doc, shape) in DOINGS.items()},
    build=_doing,
    one_of=tuple(Act),
)

CONTAINER_TABLES: tuple[tuple[str, AnyTable], ...] = tuple(
    (f"`container`: `{act}`", shape) for act, (_, shape) in DOINGS.items() if isinstance(shape, Table)
)
